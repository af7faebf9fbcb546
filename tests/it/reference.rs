//! The pages of `docs/reference` against the proto: they are made from its comments, a page
//! a service and one of the types that services share. A page that is old fails here, and
//! the pages as they must be lie ready to be copied.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use doorbell::proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

/// Where the pages are, in the repository.
const PAGES: &str = "docs/reference";

/// The page of what is no service's own.
const TYPES: &str = "types.md";

/// The numbers of `descriptor.proto` by which comments are found.
const FILE_MESSAGE: i32 = 4;
const FILE_ENUM: i32 = 5;
const FILE_SERVICE: i32 = 6;
const FILE_SYNTAX: i32 = 12;
const PART: i32 = 2;

/// A message, an enum, a service or a method, with where its comments are.
struct Found<'s, T> {
    file: &'s FileDescriptorProto,
    path: Vec<i32>,
    is: &'s T,
}

impl<'s, T> Found<'s, T> {
    /// Its comment; every one has one, or the page would be silent about it.
    fn comment(&self) -> String {
        comment(self.file, &self.path)
    }

    /// A part of it: a field of a message, a value of an enum, a method of a service.
    fn part<P>(&self, is: &'s P, at: usize) -> Found<'s, P> {
        let mut path = self.path.clone();
        path.extend([PART, i32::try_from(at).unwrap()]);
        Found {
            file: self.file,
            path,
            is,
        }
    }
}

/// What is written above the element of that path, a space a line taken away.
fn comment(file: &FileDescriptorProto, path: &[i32]) -> String {
    let locations = &file.source_code_info.as_ref().unwrap().location;
    let found = locations.iter().find(|location| location.path == path);
    let text = found.map(|location| location.leading_comments());
    let text = text.unwrap_or_default().trim_end();
    assert!(!text.is_empty(), "{}: {path:?} has no comment", file.name());
    let lines = text
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// The top elements of our files.
fn all<'s, T>(
    set: &'s FileDescriptorSet,
    number: i32,
    of: impl Fn(&'s FileDescriptorProto) -> &'s Vec<T>,
) -> Vec<Found<'s, T>> {
    let ours = set
        .file
        .iter()
        .filter(|file| file.package() == "doorbell.v1");
    let found = ours.flat_map(|file| {
        let elements = of(file).iter().enumerate();
        elements.map(move |(at, is)| Found {
            file,
            path: vec![number, i32::try_from(at).unwrap()],
            is,
        })
    });
    found.collect()
}

/// The name without its package.
fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap()
}

/// `NotificationService` is on the page `notification-service.md`.
fn page_of(service: &str) -> String {
    let mut page = String::new();
    for c in service.chars() {
        if c.is_ascii_uppercase() && !page.is_empty() {
            page.push('-');
        }
        page.push(c.to_ascii_lowercase());
    }
    page + ".md"
}

/// Everything that a page can be about, and where that is told.
struct Reference<'s> {
    services: Vec<Found<'s, ServiceDescriptorProto>>,
    messages: BTreeMap<&'s str, Found<'s, DescriptorProto>>,
    enums: BTreeMap<&'s str, Found<'s, EnumDescriptorProto>>,
    /// The page of each name, and of each method.
    pages: BTreeMap<&'s str, String>,
    /// The reasons of errors, without their prefix.
    reasons: BTreeSet<&'s str>,
}

impl<'s> Reference<'s> {
    fn new(set: &'s FileDescriptorSet) -> Self {
        let services = all(set, FILE_SERVICE, |file| &file.service);
        let messages = all(set, FILE_MESSAGE, |file| &file.message_type);
        let enums = all(set, FILE_ENUM, |file| &file.enum_type);
        let mut pages = BTreeMap::new();
        for message in &messages {
            // Their pages have no place for it, and the proto has had no need.
            assert!(message.is.nested_type.is_empty(), "{}", message.is.name());
            pages.insert(message.is.name(), TYPES.to_owned());
        }
        pages.extend(
            enums
                .iter()
                .map(|found| (found.is.name(), TYPES.to_owned())),
        );
        let mut methods = BTreeSet::new();
        for service in &services {
            let page = page_of(service.is.name());
            pages.insert(service.is.name(), page.clone());
            for method in &service.is.method {
                assert!(methods.insert(method.name()), "{} twice", method.name());
                for of_method in [method.name(), method.input_type(), method.output_type()] {
                    pages.insert(short(of_method), page.clone());
                }
            }
        }
        let reasons = enums.iter().find(|found| found.is.name() == "ErrorReason");
        let reasons = reasons.unwrap().is.value.iter();
        let reasons = reasons.map(|value| value.name().trim_start_matches("ERROR_REASON_"));
        Self {
            reasons: reasons.collect(),
            services,
            messages: messages.into_iter().map(|m| (m.is.name(), m)).collect(),
            enums: enums.into_iter().map(|e| (e.is.name(), e)).collect(),
            pages,
        }
    }

    /// Where a name is told of, from a page; None for what is not ours.
    fn link(&self, name: &str, from: &str) -> Option<String> {
        let page = self.pages.get(name)?;
        let page = if page == from { "" } else { page };
        Some(format!("{page}#{}", name.to_lowercase()))
    }

    /// A name in code, with the link where there is one.
    fn code(&self, name: &str, from: &str) -> String {
        match self.link(name, from) {
            Some(link) => format!("[`{name}`]({link})"),
            None => format!("`{name}`"),
        }
    }

    /// A comment with links: of names in code, of reasons of errors, of addresses. `within` is
    /// what it is about, which needs no link to itself.
    fn linked(&self, text: &str, from: &str, within: &str) -> String {
        let mut out = String::new();
        for (index, piece) in text.split('`').enumerate() {
            if index % 2 == 1 {
                // `Name` and `Name.field` alike lead to the name.
                let name = piece.split('.').next().unwrap();
                match self.link(name, from) {
                    Some(link) if name != within => _ = write!(out, "[`{piece}`]({link})"),
                    _ => _ = write!(out, "`{piece}`"),
                }
                continue;
            }
            let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | ':' | '.');
            let mut rest = piece;
            while let Some(c) = rest.chars().next() {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let word = rest[..end].trim_end_matches([':', '.', '/']);
                if word.is_empty() {
                    out.push(c);
                    rest = &rest[c.len_utf8()..];
                    continue;
                }
                // A code of gRPC can have the name of a reason; reasons are in parentheses.
                let is_inner = out.matches('(').count() > out.matches(')').count();
                if word.starts_with("https://") {
                    _ = write!(out, "<{word}>");
                } else if self.reasons.contains(word) && is_inner {
                    let link = self.link("ErrorReason", from).unwrap();
                    _ = write!(out, "[{word}]({link})");
                } else {
                    out.push_str(word);
                }
                rest = &rest[word.len()..];
            }
        }
        out
    }

    /// The same in one cell of a table.
    fn cell(&self, text: &str, from: &str, within: &str) -> String {
        self.linked(text, from, within)
            .replace('\n', " ")
            .replace('|', "\\|")
    }

    fn type_of(&self, field: &FieldDescriptorProto, of: &DescriptorProto, from: &str) -> String {
        let scalar = match field.r#type() {
            Type::Message | Type::Enum => {
                let name = short(field.type_name());
                let known = field.type_name().strip_prefix(".google.protobuf.");
                match known {
                    Some(known) => format!(
                        "[`{known}`](https://protobuf.dev/reference/protobuf/google.protobuf/#{})",
                        known.to_lowercase().replace("fieldmask", "field-mask")
                    ),
                    None => self.code(name, from),
                }
            }
            scalar => format!(
                "`{}`",
                scalar
                    .as_str_name()
                    .trim_start_matches("TYPE_")
                    .to_lowercase()
            ),
        };
        if field.label() == Label::Repeated {
            return format!("list of {scalar}");
        }
        if field.proto3_optional() {
            return format!("{scalar}, optional");
        }
        match field.oneof_index {
            Some(at) => {
                let group = &of.oneof_decl[usize::try_from(at).unwrap()];
                format!("{scalar}, one of `{}`", group.name())
            }
            None => scalar,
        }
    }

    /// A message under a heading, with its fields.
    fn message(&self, name: &str, level: &str, from: &str, page: &mut String) {
        let message = &self.messages[name];
        let text = self.linked(&message.comment(), from, name);
        _ = write!(page, "\n{level} {name}\n\n{text}\n");
        self.used_by(name, from, page);
        if message.is.field.is_empty() {
            page.push_str("\nIt has no fields.\n");
            return;
        }
        page.push_str("\n| field | type | what it is |\n| --- | --- | --- |\n");
        for (at, field) in message.is.field.iter().enumerate() {
            let text = self.cell(&message.part(field, at).comment(), from, name);
            let is = self.type_of(field, message.is, from);
            _ = writeln!(page, "| `{}` | {is} | {text} |", field.name());
        }
    }

    fn enumeration(&self, name: &str, level: &str, from: &str, page: &mut String) {
        let found = &self.enums[name];
        let text = self.linked(&found.comment(), from, name);
        _ = write!(page, "\n{level} {name}\n\n{text}\n");
        self.used_by(name, from, page);
        page.push_str("\n| value | number | what it is |\n| --- | --- | --- |\n");
        for (at, value) in found.is.value.iter().enumerate() {
            let text = self.cell(&found.part(value, at).comment(), from, name);
            _ = writeln!(page, "| `{}` | {} | {text} |", value.name(), value.number());
        }
    }

    /// Which messages have it, for what is on the page of types.
    fn used_by(&self, name: &str, from: &str, page: &mut String) {
        if from != TYPES {
            return;
        }
        let has = |message: &DescriptorProto| {
            message.field.iter().any(|field| {
                field.type_name().starts_with(".doorbell.v1.") && short(field.type_name()) == name
            })
        };
        let users = self.messages.values().filter(|message| has(message.is));
        let users: Vec<_> = users.map(|user| self.code(user.is.name(), from)).collect();
        if !users.is_empty() {
            _ = write!(page, "\nIn {}.\n", users.join(", "));
        }
    }

    fn method(&self, method: &Found<'_, MethodDescriptorProto>, from: &str, page: &mut String) {
        let name = method.is.name();
        let (input, output) = (
            short(method.is.input_type()),
            short(method.is.output_type()),
        );
        let stream = if method.is.server_streaming() {
            "a stream of "
        } else {
            ""
        };
        let text = self.linked(&method.comment(), from, name);
        _ = write!(
            page,
            "\n## {name}\n\n{} answers with {stream}{}.\n\n{text}\n",
            self.code(input, from),
            self.code(output, from),
        );
        self.message(input, "###", from, page);
        self.message(output, "###", from, page);
    }

    fn service(&self, service: &Found<'_, ServiceDescriptorProto>) -> String {
        let name = service.is.name();
        let from = page_of(name);
        let proto = service.file.name();
        let mut page = format!(
            "# {name}\n\n{}\n",
            self.linked(&service.comment(), &from, name)
        );
        // That of the first file is about all of them, and on the first page.
        if !proto.ends_with("/notifications.proto") {
            let head = comment(service.file, &[FILE_SYNTAX]);
            _ = write!(page, "\n{}\n", self.linked(&head, &from, name));
        }
        _ = write!(
            page,
            "\nFrom [{}](../../proto/{proto}).\n\n",
            short_file(proto)
        );
        page.push_str(&self.calls(service, &from));
        for (at, method) in service.is.method.iter().enumerate() {
            self.method(&service.part(method, at), &from, &mut page);
        }
        page
    }

    /// Each call of a service in a line.
    fn calls(&self, service: &Found<'_, ServiceDescriptorProto>, from: &str) -> String {
        let mut table = String::from("| call | what it does |\n| --- | --- |\n");
        for (at, method) in service.is.method.iter().enumerate() {
            let text = service.part(method, at).comment().replace('\n', " ");
            let first = text.split_inclusive(". ").next().unwrap().trim_end();
            let first = first.split(": ").next().unwrap().trim_end_matches('.');
            let first = self.cell(first, from, method.name());
            _ = writeln!(table, "| {} | {first} |", self.code(method.name(), from));
        }
        table
    }

    fn types(&self) -> String {
        let mut page = String::from(
            "# Types\n\nWhat messages have in them, by name. The request and the response of a call \
             are with the call.\n",
        );
        for (name, _) in self.pages.iter().filter(|(_, page)| *page == TYPES) {
            if self.messages.contains_key(name) {
                self.message(name, "##", TYPES, &mut page);
            } else {
                self.enumeration(name, "##", TYPES, &mut page);
            }
        }
        page
    }

    fn first(&self) -> String {
        let notifications = self.services.iter();
        let mut notifications = notifications.filter(|s| s.is.name() == "NotificationService");
        let about = comment(notifications.next().unwrap().file, &[FILE_SYNTAX]);
        let mut page = format!(
            "# API reference\n\nEvery call, message and field, from the comments of the proto. \
             [The guide](../api.md) shows\nthe calls at work; this is to look things up.\n\n\
             <!-- made from the proto: tests/it/reference.rs compares, and says how to make it anew -->\n\n{}\n",
            self.linked(&about, "README.md", ""),
        );
        for service in &self.services {
            let (name, from) = (service.is.name(), "README.md");
            let text = self.linked(&service.comment(), from, name);
            _ = write!(page, "\n## [{name}]({})\n\n{text}\n\n", page_of(name));
            page.push_str(&self.calls(service, from));
        }
        page.push_str("\n## [Types](types.md)\n\nWhat messages have in them.\n\n");
        for (name, _) in self.pages.iter().filter(|(_, page)| *page == TYPES) {
            _ = writeln!(page, "- {}", self.code(name, "README.md"));
        }
        page
    }

    fn pages(&self) -> BTreeMap<String, String> {
        let services = self.services.iter();
        let mut pages: BTreeMap<_, _> = services
            .map(|service| (page_of(service.is.name()), self.service(service)))
            .collect();
        pages.insert("README.md".into(), self.first());
        pages.insert(TYPES.into(), self.types());
        pages
    }
}

/// `doorbell/v1/sends.proto` is called `sends.proto`.
fn short_file(proto: &str) -> &str {
    proto.rsplit('/').next().unwrap()
}

#[test]
fn the_reference_is_what_the_proto_says() {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let reference = Reference::new(&set);
    let pages = reference.pages();
    let calls: usize = reference.services.iter().map(|s| s.is.method.len()).sum();
    let told = pages.values().flat_map(|page| page.lines());
    let told = told.filter(|line| line.starts_with("[`") && line.contains(") answers with "));
    let told = told.count();
    assert!(told == calls && calls > 30, "{told} of {calls}");

    // A heading of a name twice on a page would make its links ambiguous.
    for (name, page) in &pages {
        let headings: Vec<_> = page.lines().filter(|line| line.starts_with('#')).collect();
        let anchors = headings
            .iter()
            .map(|line| line.trim_start_matches('#').to_lowercase());
        assert_eq!(
            anchors.collect::<BTreeSet<_>>().len(),
            headings.len(),
            "{name}"
        );
    }

    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reference");
    fs::create_dir_all(&made).unwrap();
    for (name, page) in &pages {
        fs::write(made.join(name), page).unwrap();
    }
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGES);
    let anew = format!("cp {}/*.md {PAGES}/", made.display());
    for (name, page) in &pages {
        let old = fs::read_to_string(committed.join(name)).unwrap_or_default();
        assert!(
            old == *page,
            "{PAGES}/{name} is not what the proto says: {anew}"
        );
    }
    let files = fs::read_dir(&committed).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.collect::<BTreeSet<_>>(), pages.into_keys().collect());
}

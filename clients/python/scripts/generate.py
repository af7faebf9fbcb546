"""Makes `doorbell_client/_generated` from the proto: types, calls of both clients, descriptors.

    python scripts/generate.py

Each call for backends of the services below becomes a method, with keyword arguments in place
of the request and the comments of the proto as its documentation. A new call needs a line here:
how it can be made twice, see `REPEATED`.
"""

from __future__ import annotations

import re
import tempfile
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    MethodDescriptor,
)
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_tools import protoc  # type: ignore[import-untyped]

PACKAGE = Path(__file__).resolve().parent.parent
PROTO = PACKAGE.parent.parent / "proto"
OUT = PACKAGE / "src" / "doorbell_client" / "_generated"

FILES = ["notifications", "sends", "topics", "preferences"]

# What makes it safe to make a call again, when nobody knows whether it was carried out. A call
# that is not here is not generated, so that somebody has to judge it.
KEYED = "its idempotency key, which is made where none is given"
HARMLESS = "twice is as once"
REPEATED = {
    "SendInApp": KEYED,
    "SendToMany": KEYED,
    "UpdateInApp": "without `ring`",
    "RetractInApp": HARMLESS,
    "SendToTopic": KEYED,
    "Broadcast": KEYED,
    "RetractBroadcast": HARMLESS,
    "GetSend": HARMLESS,
    "ListSends": HARMLESS,
    "CancelSend": HARMLESS,
    "RetractFromAll": KEYED,
    "GetRetraction": HARMLESS,
    "ListFollowUps": HARMLESS,
    "AddTopicMembers": HARMLESS,
    "RemoveTopicMembers": HARMLESS,
    "ListTopicMembers": HARMLESS,
    "ListTopicsOfUser": HARMLESS,
    "DeleteTopic": HARMLESS,
    "GetTypeDefaults": HARMLESS,
    "UpdateTypeDefaults": HARMLESS,
}
# What the proto names by its role, and callers by what it is.
WORDS = {
    "organization_id": "org_id",
    "recipient_user_id": "user_id",
    "recipient_user_ids": "user_ids",
}
# Here `position` is a number; the package has a `FollowUp` whose position is whole.
TYPES = {"FollowUp": "ListedFollowUp"}
# Messages that are always there, in answers.
ALWAYS = {
    "BroadcastResponse": {"send"},
    "CancelSendResponse": {"send"},
    "FollowUp": {"due_time", "notification"},
    "GetRetractionResponse": {"retraction"},
    "GetSendResponse": {"send"},
    "Notification": {"created_at", "sent_at"},
    "RetractBroadcastResponse": {"send"},
    "RetractFromAllResponse": {"retraction"},
    "RetractInAppResponse": {"head"},
    "Retraction": {"about", "accepted_at"},
    "Send": {"accepted_at", "content"},
    "SendToTopicResponse": {"send"},
    "UpdateInAppResponse": {"head", "notification"},
}

WELL_KNOWN = {
    "google.protobuf.Duration": "datetime.timedelta",
    "google.protobuf.Struct": "dict[str, Any]",
    "google.protobuf.Timestamp": "datetime.datetime",
}
TIMEOUT = "How long the call may take with all its tries, in seconds; else as the client has it."

Described = Descriptor | EnumDescriptor | FieldDescriptor | MethodDescriptor


class Proto:
    """The files, and what their comments say."""

    def __init__(self) -> None:
        self.files = compiled(PROTO)
        pool = DescriptorPool()
        self.comments: dict[str, str] = {}
        for file in self.files.file:
            pool.Add(file)
            if file.package == "doorbell.v1":
                self.comments.update(comments(file))
        self.pool = pool

    def comment(self, of: Described) -> str:
        """What is said of it, in one piece; what refers to another message is followed there."""
        text = self.comments[of.full_name]
        referred = re.match(r"As in `(\w+)`(?:, [^.]*)?\.( |$)", text)
        if referred and isinstance(of, FieldDescriptor):
            there = self.pool.FindMessageTypeByName(f"doorbell.v1.{referred[1]}")
            field = there.fields_by_name.get(of.name)
            if field is not None and field is not of:
                rest = text[referred.end() :]
                found = self.comment(field)
                return found if not rest or rest in found else f"{found} {rest}"
        return text

    def is_required(self, field: FieldDescriptor) -> bool:
        """Whether a caller has to say it."""
        comment = self.comments[field.full_name]
        return re.search(r"\bRequired\b(?!, unless)", comment) is not None

    def calls(self) -> Iterator[MethodDescriptor]:
        """The calls for backends: those that name an organization."""
        for name in FILES:
            file = self.pool.FindFileByName(f"doorbell/v1/{name}.proto")
            for service in file.services_by_name.values():
                for method in service.methods:
                    if "organization_id" in method.input_type.fields_by_name:
                        yield method


def compiled(proto: Path) -> FileDescriptorSet:
    """The descriptors of `FILES` and of all that they import, with comments."""
    includes = Path(str(protoc.__file__)).parent / "_proto"
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "files.binpb"
        compiler: Any = protoc
        code: int = compiler.main(
            [
                "protoc",
                f"--proto_path={proto}",
                f"--proto_path={includes}",
                f"--descriptor_set_out={out}",
                "--include_imports",
                "--include_source_info",
                *(f"doorbell/v1/{name}.proto" for name in FILES),
            ]
        )
        if code:
            raise SystemExit(code)
        return FileDescriptorSet.FromString(out.read_bytes())


def comments(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """The full name of each thing of a file, with the comment that leads to it."""
    for location in file.source_code_info.location:
        path = tuple(location.path)
        text = " ".join(location.leading_comments.split())
        match path:
            case (4, at):
                yield f"{file.package}.{file.message_type[at].name}", text
            case (4, at, 2, within):
                message = file.message_type[at]
                yield f"{file.package}.{message.name}.{message.field[within].name}", text
            case (5, at):
                yield f"{file.package}.{file.enum_type[at].name}", text
            case (5, at, 2, within):
                # Values are named as siblings of their enum.
                yield f"{file.package}.{file.enum_type[at].value[within].name}", text
            case (6, at, 2, within):
                service = file.service[at]
                yield f"{file.package}.{service.name}.{service.method[within].name}", text
            case _:
                pass


def _message_of(field: FieldDescriptor) -> Descriptor:
    assert field.message_type is not None, field.full_name
    return field.message_type


def snake(name: str) -> str:
    """`SendInApp` as `send_in_app`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def word(field: FieldDescriptor) -> str:
    """What callers call it."""
    return WORDS.get(field.name, field.name)


def type_of(descriptor: Descriptor | EnumDescriptor) -> str:
    """The class that it becomes."""
    return TYPES.get(descriptor.name, descriptor.name)


def has_presence(field: FieldDescriptor) -> bool:
    """Whether it can be absent: a message, an enum, or an `optional`."""
    is_enum = field.enum_type is not None
    return is_enum or (field.has_presence and not field.is_repeated)


def annotation(field: FieldDescriptor, *, given: bool = False) -> str:
    """Its type in Python, without that it may be absent; more general where it is given."""
    if field.message_type is not None:
        one = WELL_KNOWN.get(field.message_type.full_name)
        if one is None:
            one = type_of(field.message_type)
            one = f"types.{one}" if given else one
        elif given and one.startswith("dict"):
            one = "Mapping[str, Any]"
    elif field.enum_type is not None:
        one = type_of(field.enum_type)
        one = f"types.{one}" if given else one
    else:
        one = {
            FieldDescriptor.CPPTYPE_STRING: "str",
            FieldDescriptor.CPPTYPE_BOOL: "bool",
        }.get(field.cpp_type, "int")
    if field.is_repeated:
        return f"Sequence[{one}]" if given else f"list[{one}]"
    return one


def zero(field: FieldDescriptor) -> str:
    """What stands for nothing, of what cannot be absent."""
    if field.is_repeated:
        return f'field(default_factory=list["{annotation(field)[5:-1]}"])'
    return repr(field.default_value)


def documentation(text: str, indent: str, more: str = "") -> str:
    """A docstring."""
    lines = textwrap.wrap(text, 96 - len(indent), break_on_hyphens=False)
    body = f"\n{indent}".join(lines).replace("\\", "\\\\")
    if not more:
        inline = f'{indent}"""{body}"""'
        if len(lines) == 1:
            return inline
    return f'{indent}"""{body}\n{more}{indent}"""'


def class_of(proto: Proto, message: Descriptor) -> str:
    """A message as a class."""
    lines = [
        "@dataclass(frozen=True, kw_only=True, slots=True)",
        f"class {type_of(message)}:",
        documentation(proto.comment(message), "    "),
    ]
    for field in message.fields:
        kind = annotation(field)
        is_there = field.name in ALWAYS.get(message.name, ()) or proto.is_required(field)
        if is_there:
            line = f"{word(field)}: {kind}"
        elif has_presence(field):
            line = f"{word(field)}: {kind} | None = None"
        else:
            line = f"{word(field)}: {kind} = {zero(field)}"
        lines += ["", f"    {line}", documentation(proto.comment(field), "    ")]
    return "\n".join(lines)


def prefix(enum: EnumDescriptor) -> str:
    """What the names of its values begin with."""
    return snake(enum.name).upper() + "_"


def enum_of(proto: Proto, enum: EnumDescriptor) -> str:
    """An enum as a class: what is unspecified is None where it is used."""
    lines = [
        f"class {type_of(enum)}(str, Enum):",
        documentation(proto.comment(enum), "    "),
    ]
    for value in enum.values:
        name = value.name.removeprefix(prefix(enum))
        if name != "UNSPECIFIED":
            comment = proto.comments[f"{enum.file.package}.{value.name}"]
            lines += ["", f'    {name} = "{name}"', documentation(comment, "    ")]
    return "\n".join(lines)


def used(calls: Iterable[MethodDescriptor]) -> tuple[list[Descriptor], list[EnumDescriptor]]:
    """The messages and enums that those calls have to do with, but for their requests."""
    found: dict[str, Descriptor] = {}
    enums: dict[str, EnumDescriptor] = {}

    def visit(message: Descriptor, *, is_request: bool = False) -> None:
        if message.full_name in found or message.full_name in WELL_KNOWN:
            return
        if message.file.package != "doorbell.v1":
            return
        if not is_request:
            found[message.full_name] = message
        for field in message.fields:
            if field.message_type is not None:
                visit(field.message_type)
            if field.enum_type is not None:
                enums[field.enum_type.full_name] = field.enum_type

    for call in calls:
        visit(call.input_type, is_request=True)
        visit(call.output_type)
    return sorted(found.values(), key=type_of), sorted(enums.values(), key=type_of)


class Method:
    """A call as a method."""

    def __init__(self, proto: Proto, call: MethodDescriptor) -> None:
        self.proto = proto
        self.call = call
        self.request = call.input_type
        self.name = snake(call.name)
        self.constant = self.name.upper()
        self.is_keyed = REPEATED[call.name] == KEYED
        # A page becomes what it has, one after the other.
        self.items: FieldDescriptor | None = None
        if "page_token" in self.request.fields_by_name:
            self.items = next(field for field in call.output_type.fields if field.is_repeated)
        content = self.request.fields_by_name.get("content")
        self.content = content
        self.is_update = "update_mask" in self.request.fields_by_name

    @property
    def answer(self) -> str:
        return f"types.{type_of(self.call.output_type)}"

    def constant_line(self) -> str:
        options = [
            f'"/{self.call.containing_service.full_name}/{self.call.name}"',
            f'"{self.request.full_name}"',
            f'"{self.call.output_type.full_name}"',
            self.answer,
        ]
        if self.is_keyed:
            options.append("keyed=True")
        elif without := re.fullmatch(r"without `(\w+)`", REPEATED[self.call.name]):
            options.append(f'once_with="{without[1]}"')
        return f"{self.constant} = Call({', '.join(options)})"

    def _fields(self) -> Iterator[tuple[FieldDescriptor, bool]]:
        """The fields that are arguments, and whether each is of the content."""
        for field in self.request.fields:
            if field is self.content:
                for of_content in _message_of(field).fields:
                    yield of_content, True
            elif field.name not in ("page_token", "update_mask"):
                yield field, False

    def _is_required(self, field: FieldDescriptor, of_content: bool) -> bool:
        if of_content:
            return not self.is_update and field.name in ("type", "title")
        if field.name == "idempotency_key" and self.is_keyed:
            return False
        return self.proto.is_required(field)

    def _argument(self, field: FieldDescriptor) -> str:
        return "page_size" if self.items and field.name == "limit" else word(field)

    def _parameters(self) -> Iterator[str]:
        required: list[str] = []
        others: list[str] = []
        for field, of_content in self._fields():
            name, kind = self._argument(field), annotation(field, given=True)
            if self._is_required(field, of_content):
                required.append(f"{name}: {kind}")
            elif of_content and self.is_update:
                clears = "" if field.name in ("type", "title") else " | None"
                others.append(f"{name}: {kind}{clears} | Unset = UNSET")
            elif field.is_repeated:
                others.append(f"{name}: {kind} = ()")
            elif has_presence(field) or field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
                others.append(f"{name}: {kind} | None = None")
            else:
                others.append(f"{name}: {kind} = {zero(field)}")
        yield "self"
        yield "*"
        yield from required
        yield from others
        yield "timeout: float | None = None"

    def _comment(self, field: FieldDescriptor, of_content: bool) -> str:
        comment = self.proto.comment(field)
        if of_content:
            send = self.proto.pool.FindMessageTypeByName("doorbell.v1.SendInAppRequest")
            comment = self.proto.comment(send.fields_by_name[field.name])
            if self.is_update:
                comment = comment.replace(" Required:", "")
        if field.name == "idempotency_key" and self.is_keyed:
            comment = comment.replace("Required: ", "").replace(" Required.", "")
            comment += " Made where none is given."
        if field.name == "limit" and self.items:
            comment = f"How many to ask for at once. {comment}"
        return comment

    def _docs(self) -> str:
        fields = sorted(self._fields(), key=lambda pair: not self._is_required(*pair))
        lines = [f"{self._argument(field)}: {self._comment(field, of)}" for field, of in fields]
        more = "\n        Args:\n"
        for line in [*lines, f"timeout: {TIMEOUT}"]:
            more += textwrap.fill(
                line,
                96,
                initial_indent=" " * 12,
                subsequent_indent=" " * 16,
                break_on_hyphens=False,
            )
            more += "\n"
        text = self.proto.comment(self.call)
        if self.items:
            text += " Asks for page after page as they are needed."
        return documentation(text, "        ", more)

    def _request(self) -> str:
        own: list[tuple[str, str]] = []
        content: list[tuple[str, str]] = []
        for field, of_content in self._fields():
            (content if of_content else own).append((field.name, self._argument(field)))
        pairs = [f'"{name}": {argument}' for name, argument in own]
        if self.content and self.is_update:
            pairs += ['"content": content', '"update_mask": list(content)']
        elif self.content:
            inner = ", ".join(f'"{name}": {argument}' for name, argument in content)
            pairs.append(f'"content": {{{inner}}}')
        return "{" + ", ".join(pairs) + "}"

    def _before(self) -> list[str]:
        if not (self.content and self.is_update):
            return []
        given = ", ".join(f"{f.name}={f.name}" for f, of_content in self._fields() if of_content)
        return [f"        content = given({given})"]

    def definition(self, *, is_async: bool) -> str:
        """The method of one of the two clients."""
        parameters = "".join(f"        {parameter},\n" for parameter in self._parameters())
        keyword, wait = ("async def", "await ") if is_async else ("def", "")
        answer, call = self.answer, "_call"
        arguments = [f"calls.{self.constant}", self._request(), "timeout"]
        if self.items:
            keyword, wait, call = "def", "", "_pages"
            kind = annotation(self.items, given=True)
            item = kind.removeprefix("Sequence[").removesuffix("]")
            answer = f"{'Async' if is_async else ''}Iterator[{item}]"
            arguments.insert(1, f"lambda page: page.{word(self.items)}")
        return "\n".join(
            [
                f"    {keyword} {self.name}(\n{parameters}    ) -> {answer}:",
                self._docs(),
                *self._before(),
                f"        return {wait}self.{call}({', '.join(arguments)})",
            ]
        )


HEADER = '"""Generated by scripts/generate.py: do not edit."""\n\n'


def types_module(messages: Iterable[str], enums: Iterable[str], table: dict[str, str]) -> str:
    """The types, and a table of them by the names of the proto."""
    rows = "".join(f'    "{name}": {kind},\n' for name, kind in table.items())
    words = "".join(f'    "{name}": "{there}",\n' for name, there in WORDS.items())
    parts = [
        HEADER + "from __future__ import annotations\n\n"
        "import datetime\nfrom dataclasses import dataclass, field\nfrom enum import Enum\n"
        "from typing import Any",
        *enums,
        *messages,
        f"BY_NAME: dict[str, type[Any]] = {{\n{rows}}}",
        f"WORDS: dict[str, str] = {{\n{words}}}",
    ]
    return "\n\n\n".join(parts)


def clients_module(name: str, parts: Iterable[Method], *, is_async: bool) -> str:
    """The methods of one client."""
    wait = "async " if is_async else ""
    iterator = "AsyncIterator" if is_async else "Iterator"
    return (
        HEADER + "from __future__ import annotations\n\n"
        f"import datetime\nfrom abc import ABC, abstractmethod\n"
        f"from collections.abc import Callable, {iterator}, Mapping, Sequence\n"
        "from typing import Any, TypeVar\n\n"
        "from .._call import UNSET, Call, Unset, given\n"
        "from . import calls, types\n\n"
        'Answer = TypeVar("Answer")\nItem = TypeVar("Item")\n\n\n'
        f"class {name}(ABC):\n"
        '    """Each call for backends as a method."""\n\n'
        "    @abstractmethod\n"
        f"    {wait}def _call(\n"
        "        self, call: Call[Answer], request: dict[str, Any], timeout: float | None\n"
        "    ) -> Answer: ...\n\n"
        "    @abstractmethod\n"
        "    def _pages(\n"
        "        self,\n"
        "        call: Call[Answer],\n"
        "        items: Callable[[Answer], list[Item]],\n"
        "        request: dict[str, Any],\n"
        "        timeout: float | None,\n"
        f"    ) -> {iterator}[Item]: ...\n\n"
        + "\n\n".join(part.definition(is_async=is_async) for part in parts)
        + "\n"
    )


def main() -> None:
    """Writes all of it."""
    proto = Proto()
    found = list(proto.calls())
    if odd := {call.name for call in found} ^ REPEATED.keys():
        raise SystemExit(f"{__file__}: REPEATED must have each call and no other: {odd}")
    parts = [Method(proto, call) for call in found]
    messages, enums = used(found)
    table = {of.full_name: type_of(of) for of in enums}
    table |= {of.full_name: type_of(of) for of in messages}
    files = FileDescriptorSet()
    files.CopyFrom(proto.files)
    for file in files.file:
        file.ClearField("source_code_info")
    constants = "\n".join(part.constant_line() for part in parts)
    names = ", ".join(f'"{name}"' for name in sorted(table.values()))
    modules = {
        "__init__": HEADER,
        "types": types_module(
            (class_of(proto, message) for message in messages),
            (enum_of(proto, enum) for enum in enums),
            table,
        )
        + f"\n\n__all__ = [{names}]\n",
        "calls": f"{HEADER}from .._call import Call\nfrom . import types\n\n{constants}\n",
        "sync_calls": clients_module("SyncCalls", parts, is_async=False),
        "async_calls": clients_module("AsyncCalls", parts, is_async=True),
        "descriptors": f"{HEADER}FILES = {files.SerializeToString()!r}\n",
    }
    OUT.mkdir(exist_ok=True)
    for name, text in modules.items():
        (OUT / f"{name}.py").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

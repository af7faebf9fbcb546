//! The way from a screen to the service: whether calls pass, whether streams do, and what a
//! proxy does to them.
//!
//! A call says whether the way is there and the token is taken. Then a stream is opened, as
//! gRPC and as gRPC-web at once, and listened to until its first heartbeat: what is silent
//! is held back, what ends before is cut.

use std::time::Duration;

use http::Version;
use prost::Message as _;
use tokio::time::{Instant, timeout_at};

use super::{
    DoctorArgs, Finding, certificates, clocks,
    stream::{Answer, Problem, Protocol, Said, Status, Target},
};
use crate::{
    auth::{
        Rules, Secret,
        mint::{Grant, Minter},
    },
    clock::{Clock, Timestamp},
    config::AuthSettings,
    proto::{
        GetUnreadCountRequest, SubscribeRequest, SubscribeResponse, subscribe_response::Event,
    },
};

const ABOUT: &str = "way";
/// A stream says at once that it is connected; what takes longer is held back.
const AT_ONCE: Duration = Duration::from_secs(5);
/// A heartbeat that is later than this is held back.
const LATE: Duration = Duration::from_secs(5);
/// No heartbeat is waited for longer.
const MOST: Duration = Duration::from_secs(120);
/// For whom a token is signed.
const ORGANIZATION: &str = "doorbell-doctor";
const USER: &str = "doctor";
/// The token outlives what is done with it.
const LIFETIME: Duration = Duration::from_secs(10 * 60);
/// The code of gRPC for a token that is missing or not taken.
const UNAUTHENTICATED: u32 = 16;
const PROXIES: &str = "docs/proxies.md has the lines for each proxy";

/// Looks at the way to the URL, where there is one.
pub(super) async fn examine(args: &DoctorArgs, clock: &dyn Clock) -> Vec<Finding> {
    let Some(url) = &args.url else {
        return Vec::new();
    };
    let read = |file: &std::path::PathBuf| {
        std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
    };
    let ca_pem = args.ca_file.as_ref().map(read).transpose();
    let target = ca_pem
        .map_err(|error| format!("--ca-file {error}"))
        .and_then(|pem| {
            let target = Target::new(url, pem.as_deref().map(str::as_bytes));
            target.map_err(|problem| format!("--url (DOORBELL_URL) {problem}"))
        });
    let target = match target {
        Ok(target) => target,
        Err(problem) => return vec![Finding::fault(ABOUT, problem, "change it")],
    };
    let token = match (&args.token, &args.token_file) {
        (Some(token), _) => Ok(Some(token.clone())),
        (None, Some(file)) => read(file)
            .map(Some)
            .map_err(|error| format!("--token-file {error}")),
        (None, None) => Ok(minted(&args.config.auth, clock)),
    };
    let token = match token {
        Ok(token) => token,
        Err(problem) => return vec![Finding::fault(ABOUT, problem, "change it")],
    };
    let asked = Asked {
        target,
        token: token.as_deref(),
        heartbeat: args.config.feed.heartbeat_interval.into(),
        clock,
    };
    let (grpc, web) = tokio::join!(
        Heard::by(Protocol::Grpc, &asked),
        Heard::by(Protocol::GrpcWeb, &asked),
    );
    judge(url, &grpc, &web, token.is_some(), clock)
}

/// A token by the secret of the settings, where there is one.
fn minted(auth: &AuthSettings, clock: &dyn Clock) -> Option<String> {
    let secret = Secret::load(auth).ok()??;
    let organization = auth.single_organization.as_deref().unwrap_or(ORGANIZATION);
    let grant = Grant {
        organization: organization.to_owned(),
        user: Some(USER.to_owned()),
        role: None,
        subject: None,
        lifetime: LIFETIME,
    };
    let minter = Minter::from_secret(&secret, Rules::new(auth).ok()?);
    minter.mint(&grant, clock.now()).ok()
}

/// What became of a call and of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Course {
    /// There was no answer.
    Unanswered(Problem),
    /// What answered was no gRPC.
    Foreign(String),
    /// The service said no.
    Refused(Status),
    /// Calls are answered, and a stream brings nothing.
    Mute,
    /// The stream began, and ended before its heartbeat.
    Cut {
        after: Duration,
        heartbeat: Duration,
        how: String,
    },
    /// It began, and its heartbeat did not come.
    Silent { heartbeat: Duration },
    /// Its heartbeat came, or it was open for as long as is waited for one.
    Passes { open: Duration },
}

/// What is asked of both protocols.
struct Asked<'a> {
    target: Target,
    token: Option<&'a str>,
    /// How long a stream is silent, where it does not say so itself.
    heartbeat: Duration,
    clock: &'a dyn Clock,
}

/// What was seen on the way.
#[derive(Clone, Debug)]
struct Heard {
    protocol: Protocol,
    course: Course,
    /// The version and the compression of the answers.
    version: Option<Version>,
    encoding: Option<String>,
    /// A date that an answer bore, and what our clock said before it.
    date: Option<(String, Timestamp)>,
    certificate_ends: Option<u64>,
}

impl Heard {
    async fn by(protocol: Protocol, asked: &Asked<'_>) -> Self {
        let mut heard = Self {
            protocol,
            course: Course::Mute,
            version: None,
            encoding: None,
            date: None,
            certificate_ends: None,
        };
        heard.course = match heard.listen(asked).await {
            Ok(course) | Err(course) => course,
        };
        heard
    }

    /// What it came to; an error where it ended early.
    async fn listen(&mut self, asked: &Asked<'_>) -> Result<Course, Course> {
        let Asked {
            target,
            token,
            heartbeat,
            clock,
        } = asked;
        let before = clock.now();
        let request = GetUnreadCountRequest::default().encode_to_vec();
        let called = target.call(self.protocol, "GetUnreadCount", &request, *token);
        let mut answer = called.await.map_err(Course::Unanswered)?;
        self.note(&answer, before);
        foreign(&answer)?;
        let status = end_of(&mut answer).await.map_err(|how| {
            Course::Unanswered(Problem::NoAnswer(format!(
                "the answer to a call broke off: {how}"
            )))
        })?;
        match status {
            Some(status) if status.code == 0 => {}
            Some(status) => return Err(Course::Refused(status)),
            // Compressed: nothing of it was read.
            None if answer.encoding().is_some() => {}
            None => {
                let lost = "an answer without trailers: they were lost on the way";
                return Err(Course::Foreign(lost.into()));
            }
        }

        let begun = Instant::now();
        let request = SubscribeRequest::default().encode_to_vec();
        let called = target.call(self.protocol, "Subscribe", &request, *token);
        // Some hold back the headers too.
        let answer = timeout_at(begun + AT_ONCE, called).await;
        let mut answer = match answer {
            Err(_) => return Ok(Course::Mute),
            Ok(answer) => answer.map_err(Course::Unanswered)?,
        };
        self.note(&answer, before);
        foreign(&answer)?;
        let first = timeout_at(begun + AT_ONCE, answer.next()).await;
        let heartbeat = match first {
            Err(_) => return Ok(Course::Mute),
            Ok(Ok(Said::Message(message))) => interval(message.as_deref()).unwrap_or(*heartbeat),
            Ok(Ok(Said::End(Some(status)))) => return Err(Course::Refused(status)),
            Ok(Ok(Said::End(None))) => return Ok(cut(begun, AT_ONCE, "without a word")),
            Ok(Err(how)) => return Ok(cut(begun, AT_ONCE, &how)),
        };
        let patience = heartbeat.min(MOST);
        let mut deadline = Instant::now() + patience + LATE;
        let last = begun + MOST + LATE;
        loop {
            let said = match timeout_at(deadline.min(last), answer.next()).await {
                Err(_) if heartbeat > patience || deadline > last => {
                    return Ok(Course::Passes {
                        open: begun.elapsed(),
                    });
                }
                Err(_) => return Ok(Course::Silent { heartbeat }),
                Ok(Err(how)) => return Ok(cut(begun, heartbeat, &how)),
                Ok(Ok(said)) => said,
            };
            match said {
                Said::End(None) => return Ok(cut(begun, heartbeat, "without a word")),
                Said::End(Some(status)) => {
                    let how = format!("with code {}: {}", status.code, status.message);
                    return Ok(cut(begun, heartbeat, &how));
                }
                Said::Message(message) => {
                    let is_life = match message {
                        Some(message) => is_heartbeat(&message),
                        // What cannot be read, and comes so late, was brought by one.
                        None => begun.elapsed() * 2 >= patience,
                    };
                    if is_life {
                        return Ok(Course::Passes {
                            open: begun.elapsed(),
                        });
                    }
                    // What says something needs no heartbeat for so long.
                    deadline = Instant::now() + patience + LATE;
                }
            }
        }
    }

    fn note(&mut self, answer: &Answer, before: Timestamp) {
        self.version = Some(answer.version);
        self.certificate_ends = answer.certificate_ends;
        self.encoding = answer
            .encoding()
            .map(str::to_owned)
            .or(self.encoding.take());
        if self.date.is_none() {
            self.date = answer.date().map(|date| (date.to_owned(), before));
        }
    }
}

fn foreign(answer: &Answer) -> Result<(), Course> {
    if answer.is_grpc() {
        return Ok(());
    }
    let content_type = match answer.content_type() {
        "" => "no content type",
        content_type => content_type,
    };
    let status = answer.http_status;
    Err(Course::Foreign(format!("{status}, with {content_type}")))
}

/// The status of a call, once it has ended.
async fn end_of(answer: &mut Answer) -> Result<Option<Status>, String> {
    let deadline = Instant::now() + super::stream::CALL_TIMEOUT;
    loop {
        match timeout_at(deadline, answer.next()).await {
            Err(_) => return Err("its end did not come".into()),
            Ok(Ok(Said::End(status))) => return Ok(status),
            Ok(Ok(Said::Message(_))) => {}
            Ok(Err(how)) => return Err(how),
        }
    }
}

fn cut(begun: Instant, heartbeat: Duration, how: &str) -> Course {
    Course::Cut {
        after: begun.elapsed(),
        heartbeat,
        how: how.to_owned(),
    }
}

/// How long a stream may be silent, by its first message where that can be read.
fn interval(message: Option<&[u8]>) -> Option<Duration> {
    let connected = SubscribeResponse::decode(message?).ok()?;
    match connected.event? {
        Event::Connected(connected) => Duration::try_from(connected.heartbeat_interval?).ok(),
        _ => None,
    }
}

fn is_heartbeat(message: &[u8]) -> bool {
    let response = SubscribeResponse::decode(message);
    response.is_ok_and(|response| matches!(response.event, Some(Event::Heartbeat(_))))
}

fn judge(url: &str, grpc: &Heard, web: &Heard, has_token: bool, clock: &dyn Clock) -> Vec<Finding> {
    let mut findings = vec![
        of_course(url, grpc, &web.course, has_token),
        of_course(url, web, &grpc.course, has_token),
    ];
    if findings[0].says == findings[1].says {
        findings.pop();
    }
    if let Some(encoding) = &web.encoding {
        findings.push(Finding::warning(
            ABOUT,
            format!("answers by gRPC-web are compressed on the way ({encoding})"),
            "turn that off for application/grpc-web+proto (nginx: gzip off): what gathers bytes \
             to compress them holds streams back",
        ));
    }
    if [grpc, web]
        .iter()
        .any(|heard| heard.version == Some(Version::HTTP_10))
    {
        findings.push(Finding::warning(
            ABOUT,
            format!("{url} answers with HTTP/1.0, which has no way to say where a message ends"),
            format!("have the proxy speak HTTP/1.1 or 2: {PROXIES}"),
        ));
    }
    let ends = grpc.certificate_ends.or(web.certificate_ends);
    findings.extend(ends.map(|ends| certificates::expiry(url, ends, clock)));
    let date = web.date.as_ref().or(grpc.date.as_ref());
    findings.extend(date.and_then(|(date, before)| clocks::judge_date(url, date, *before, clock)));
    findings
}

/// What the course of a protocol means, beside that of the other.
fn of_course(url: &str, heard: &Heard, other: &Course, has_token: bool) -> Finding {
    let protocol = heard.protocol;
    let short = |time: &Duration| {
        const STEP: Duration = Duration::from_millis(100);
        let steps = time.as_millis() / STEP.as_millis();
        let rounded = STEP * u32::try_from(steps).unwrap_or(u32::MAX);
        humantime::format_duration(rounded).to_string()
    };
    match &heard.course {
        Course::Passes { open } => Finding::ok(
            ABOUT,
            format!(
                "{protocol} passes: a stream was open for {} and had its heartbeat",
                short(open)
            ),
        ),
        Course::Unanswered(Problem::NoHttp2(how)) => {
            let says = format!("{protocol} does not pass: {url} speaks no HTTP/2 ({how})");
            let advice = format!(
                "backends need HTTP/2, pages do not: turn it on at the proxy, on both of its \
                 sides; {PROXIES}"
            );
            // Pages have a way.
            match other {
                Course::Passes { .. } => Finding::warning(ABOUT, says, advice),
                _ => Finding::fault(ABOUT, says, advice),
            }
        }
        Course::Unanswered(Problem::Away(how)) => Finding::fault(
            ABOUT,
            format!("{url} is not there: {how}"),
            "is the proxy running, and are name, port and firewall right?",
        ),
        Course::Unanswered(Problem::Tls(how)) => Finding::fault(
            ABOUT,
            format!("TLS with {url} fails: {how}"),
            "look at the certificate and its chain; --ca-file is for private ones",
        ),
        Course::Unanswered(Problem::NoAnswer(how)) => Finding::fault(
            ABOUT,
            format!("{protocol} does not pass: {how}"),
            format!("does the proxy reach doorbell? {PROXIES}"),
        ),
        Course::Foreign(what) => {
            let says = format!("{protocol} does not pass: the answer is {what}");
            let advice = format!(
                "the proxy must hand on the path /doorbell.v1.NotificationService/ and reach \
                 doorbell by HTTP/2: {PROXIES}"
            );
            match other {
                Course::Passes { .. } => Finding::warning(ABOUT, says, advice),
                _ => Finding::fault(ABOUT, says, advice),
            }
        }
        Course::Refused(status) if status.code == UNAUTHENTICATED && !has_token => {
            Finding::warning(
                ABOUT,
                format!("{protocol} passes, and streams could not be tried without a token"),
                "give --token or --token-file, of a user",
            )
        }
        Course::Refused(Status { code, message }) => Finding::fault(
            ABOUT,
            format!("{protocol} passes, and the service says no (code {code}): {message}"),
            "give the token of a user that this service takes, and see whether it is ready",
        ),
        Course::Mute => Finding::fault(
            ABOUT,
            format!("{protocol}: calls pass, and a stream says nothing: it is held back"),
            format!("turn off buffering of answers (and gzip) in the proxy: {PROXIES}"),
        ),
        Course::Cut {
            after,
            heartbeat,
            how,
        } => Finding::fault(
            ABOUT,
            format!(
                "{protocol}: a stream was cut after {}, before its heartbeat ({}): {how}",
                short(after),
                short(heartbeat)
            ),
            format!(
                "let a stream be silent at the proxy for {}, or lower \
                 DOORBELL_HEARTBEAT_INTERVAL: {PROXIES}",
                short(&(*heartbeat * 3))
            ),
        ),
        Course::Silent { heartbeat } => Finding::fault(
            ABOUT,
            format!(
                "{protocol}: a stream began, and its heartbeat ({}) did not come: it is held back",
                short(heartbeat)
            ),
            format!("turn off buffering of answers (and gzip) in the proxy: {PROXIES}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Level, tests::At},
        *,
    };

    fn heard(protocol: Protocol, course: Course) -> Heard {
        Heard {
            protocol,
            course,
            version: Some(Version::HTTP_2),
            encoding: None,
            date: None,
            certificate_ends: None,
        }
    }

    fn levels(grpc: Course, web: Course, has_token: bool) -> Vec<Level> {
        let (grpc, web) = (heard(Protocol::Grpc, grpc), heard(Protocol::GrpcWeb, web));
        let findings = judge("https://bell", &grpc, &web, has_token, &At(0));
        findings.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn pages_may_have_a_way_where_backends_have_none() {
        let passes = || Course::Passes {
            open: Duration::from_secs(25),
        };
        let no_http2 = || Course::Unanswered(Problem::NoHttp2("no".into()));
        assert_eq!(levels(passes(), passes(), true), [Level::Ok, Level::Ok]);
        assert_eq!(
            levels(no_http2(), passes(), true),
            [Level::Warning, Level::Ok]
        );
        assert_eq!(
            levels(no_http2(), Course::Mute, true),
            [Level::Fault, Level::Fault]
        );
        // The same of both is said once.
        let away = || Course::Unanswered(Problem::Away("refused".into()));
        assert_eq!(levels(away(), away(), true), [Level::Fault]);
    }

    #[test]
    fn without_a_token_a_refusal_is_what_was_to_be_expected() {
        let refused = || {
            Course::Refused(Status {
                code: UNAUTHENTICATED,
                message: "there is no token".into(),
            })
        };
        let both = |level| [level, level];
        assert_eq!(levels(refused(), refused(), false), both(Level::Warning));
        assert_eq!(levels(refused(), refused(), true), both(Level::Fault));
    }

    #[test]
    fn what_gathers_bytes_is_named() {
        let passes = Course::Passes {
            open: Duration::from_secs(25),
        };
        let grpc = heard(Protocol::Grpc, passes.clone());
        let mut web = heard(Protocol::GrpcWeb, passes);
        web.encoding = Some("gzip".into());
        web.version = Some(Version::HTTP_10);
        let findings = judge("http://bell", &grpc, &web, true, &At(0));
        let warnings: Vec<_> = findings
            .iter()
            .filter(|finding| finding.level == Level::Warning)
            .map(|finding| finding.says.as_str())
            .collect();
        assert!(warnings[0].contains("(gzip)"), "{warnings:?}");
        assert!(warnings[1].contains("HTTP/1.0"), "{warnings:?}");
    }

    #[test]
    fn the_interval_is_that_of_the_first_message() {
        use crate::proto::Connected;
        let response = SubscribeResponse {
            event: Some(Event::Connected(Connected {
                heartbeat_interval: Some(prost_types::Duration {
                    seconds: 7,
                    nanos: 0,
                }),
                ..Connected::default()
            })),
            ..SubscribeResponse::default()
        };
        let message = response.encode_to_vec();
        assert_eq!(interval(Some(&message)), Some(Duration::from_secs(7)));
        assert_eq!(interval(None), None);
        assert!(!is_heartbeat(&message));
    }
}

//! `doorbell sends` and `doorbell cancel`: broadcasts and sends for later and to topics, how
//! far they are, and their end.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde_json::json;

use super::{ConnectionArgs, Error, PATIENCE, ScopeArgs, send_to_many::style, text, write_json};
use crate::{
    client::{
        self, CancelSendRequest, Client, GetSendRequest, ListSendsRequest, RetractBroadcastRequest,
        Send, SendState,
    },
    config::MAX_RECENT_LIMIT,
};

/// Between two looks at a send that is followed.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Which sends.
#[derive(Args, Clone)]
pub struct SendsArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// Whose it is
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// This one alone
    #[arg(value_name = "ID", conflicts_with_all = ["state", "limit"])]
    pub id: Option<String>,
    /// The one of this key alone
    #[arg(long, value_name = "KEY", conflicts_with_all = ["id", "state", "limit"])]
    pub idempotency_key: Option<String>,
    /// Show how it goes on until it has ended
    #[arg(long)]
    pub follow: bool,
    /// Only those in this state
    #[arg(long, value_enum)]
    pub state: Option<StateArg>,
    /// At most so many, the newest first
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub limit: usize,
    /// Print each as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// A state by its name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum StateArg {
    /// Its time has not come
    Waiting,
    /// Some have it
    UnderWay,
    /// All have it
    Done,
    /// Nobody gets it any more
    Cancelled,
}

impl From<StateArg> for SendState {
    fn from(state: StateArg) -> Self {
        match state {
            StateArg::Waiting => Self::Waiting,
            StateArg::UnderWay => Self::UnderWay,
            StateArg::Done => Self::Done,
            StateArg::Cancelled => Self::Cancelled,
        }
    }
}

/// Which send to cancel.
#[derive(Args, Clone)]
pub struct CancelArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// Whose it is
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// The send
    #[arg(value_name = "ID")]
    pub id: String,
    /// Take it back from who has it, too: of a broadcast
    #[arg(long)]
    pub retract: bool,
    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Lists sends, or shows one.
pub async fn run(args: SendsArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    if args.id.is_none() && args.idempotency_key.is_none() {
        if args.follow {
            return Err(Error::Usage(
                "--follow: name the send that is to be followed".into(),
            ));
        }
        return list(&client, &args).await;
    }
    let request = GetSendRequest {
        organization_id: args.scope.organization_id(),
        all_organizations: args.scope.all_organizations,
        send_id: args.id.clone(),
        idempotency_key: args.idempotency_key.clone(),
    };
    let send = match args.follow {
        true => follow(&client, &request).await?,
        false => get(&client, &request).await?,
    };
    print(&mut io::stdout().lock(), &send, args.json)
}

async fn get(client: &Client, request: &GetSendRequest) -> Result<Send, Error> {
    let call = async || client.get_send(request.clone()).await;
    let answer = client.patiently(PATIENCE, call).await?;
    Ok(answer.send.unwrap_or_default())
}

/// Looks until it has ended; on a terminal, with a bar.
async fn follow(client: &Client, request: &GetSendRequest) -> Result<Send, Error> {
    let bar = ProgressBar::new(0).with_style(style());
    loop {
        let send = get(client, request).await?;
        let done = send.delivered_count + send.suppressed_count + send.error_count;
        bar.set_length(send.total_count.max(done).into());
        bar.set_position(done.into());
        if matches!(send.state(), SendState::Done | SendState::Cancelled) {
            bar.finish_and_clear();
            return Ok(send);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn list(client: &Client, args: &SendsArgs) -> Result<(), Error> {
    let mut request = ListSendsRequest {
        organization_id: args.scope.organization_id(),
        all_organizations: args.scope.all_organizations,
        state: args
            .state
            .map_or(SendState::Unspecified, SendState::from)
            .into(),
        ..ListSendsRequest::default()
    };
    let mut left = args.limit;
    while left > 0 {
        let limit = left.min(MAX_RECENT_LIMIT);
        request.limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let page = client.list_sends(request.clone()).await?;
        left -= page.sends.len().min(left);
        for send in &page.sends {
            print(&mut io::stdout().lock(), send, args.json)?;
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    Ok(())
}

/// Cancels, and prints how many had it.
pub async fn cancel(args: CancelArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let (organization_id, all_organizations) =
        (args.scope.organization_id(), args.scope.all_organizations);
    let send = if args.retract {
        let request = RetractBroadcastRequest {
            organization_id,
            all_organizations,
            send_id: args.id,
        };
        let call = async || client.retract_broadcast(request.clone()).await;
        client.patiently(PATIENCE, call).await?.send
    } else {
        let request = CancelSendRequest {
            organization_id,
            all_organizations,
            send_id: args.id,
        };
        let call = async || client.cancel_send(request.clone()).await;
        client.patiently(PATIENCE, call).await?.send
    };
    let send = send.unwrap_or_default();
    print(&mut io::stdout().lock(), &send, args.json)
}

/// Prints a send that was accepted.
pub(super) fn accepted(
    out: &mut impl Write,
    send: &Send,
    is_duplicate: bool,
    as_json: bool,
) -> Result<(), Error> {
    if as_json {
        let value = json!({"send": client::json::send(send), "duplicate": is_duplicate});
        return Ok(write_json(out, &value)?);
    }
    if is_duplicate {
        writeln!(out, "was sent before, with the same key: nothing changed")?;
    }
    print(out, send, as_json)
}

fn print(out: &mut impl Write, send: &Send, as_json: bool) -> Result<(), Error> {
    if as_json {
        return Ok(write_json(out, &client::json::send(send))?);
    }
    let title = send.content.as_ref().map_or("", |content| &content.title);
    let is_broadcast = send.available_until.is_some();
    let whom = match send.topic_id.as_str() {
        "" if is_broadcast => "to everybody".to_owned(),
        "" => format!("to {}", people(send.total_count)),
        topic => format!("to topic {}", text::line(topic)),
    };
    let time = |time: &Option<prost_types::Timestamp>| {
        let time = time.as_ref().map(client::json::rfc3339);
        time.unwrap_or_default()
    };
    let so_far = match is_broadcast {
        true => format!("{} have it", send.delivered_count),
        false => format!("{} of {} have it", send.delivered_count, send.total_count),
    };
    let how = match send.state() {
        SendState::Unspecified => "in a state that this version does not know".to_owned(),
        SendState::Waiting if !is_for_later(send) => "about to begin".to_owned(),
        SendState::Waiting => format!("waits until {}", time(&send.deliver_time)),
        SendState::UnderWay if is_broadcast => {
            format!("until {}: {so_far}", time(&send.available_until))
        }
        SendState::UnderWay => format!("under way: {so_far}"),
        SendState::Done => format!("done at {}: {so_far}", time(&send.ended_at)),
        SendState::Cancelled => format!("cancelled at {}: {so_far}", time(&send.ended_at)),
    };
    let others = [
        (
            send.suppressed_count,
            "not sent: its time was over, or they do not want its type",
        ),
        (send.error_count, "failed"),
    ];
    let others = others.into_iter().filter(|(count, _)| *count > 0);
    let others: String = others
        .map(|(count, what)| format!("; {count} {what}"))
        .collect();
    writeln!(
        out,
        "{}  {}  {whom}; {how}{others}",
        text::line(&send.id),
        text::line(title)
    )?;
    Ok(())
}

/// Whether it was to wait when it was accepted.
fn is_for_later(send: &Send) -> bool {
    let order = |time: &Option<prost_types::Timestamp>| {
        let time = time.unwrap_or_default();
        (time.seconds, time.nanos)
    };
    order(&send.deliver_time) > order(&send.accepted_at)
}

fn people(count: u32) -> String {
    match count {
        1 => "1 person".into(),
        count => format!("{count} people"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_is_a_line_that_says_how_far_it_is() {
        let send = Send {
            id: "the-id".into(),
            topic_id: "news\x1b[2J".into(),
            total_count: 12,
            delivered_count: 7,
            error_count: 1,
            state: SendState::UnderWay.into(),
            ..Send::default()
        };
        let mut out = Vec::new();
        print(&mut out, &send, false).unwrap();
        let line = String::from_utf8(out).unwrap();
        assert!(
            line.contains("under way: 7 of 12 have it; 1 failed"),
            "{line}"
        );
        assert!(
            line.starts_with("the-id  ") && !line.contains('\x1b'),
            "{line}"
        );
    }

    #[test]
    fn only_what_is_for_later_waits() {
        let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let send = Send {
            accepted_at: time(60),
            deliver_time: time(60),
            state: SendState::Waiting.into(),
            ..Send::default()
        };
        let line = |send: &Send| {
            let mut out = Vec::new();
            print(&mut out, send, false).unwrap();
            String::from_utf8(out).unwrap()
        };
        let at_once = line(&send);
        assert!(at_once.contains("; about to begin"), "{at_once}");
        let later = line(&Send {
            deliver_time: time(90),
            ..send
        });
        assert!(
            later.contains("; waits until 1970-01-01T00:01:30"),
            "{later}"
        );
    }
}

//! The bytes of one connection: which protocol they are, and when they moved.
//!
//! Connections are read in turn: one that has much to say says a little at a time,
//! and then lets others speak. One whose calls were not begun yet, or that has more
//! of them than it may, cancelled ones included, is not read until they were. So one
//! that opens or resets streams by the thousand stands before nobody else.

use std::{
    io::{self, Cursor, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::coop,
};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::idle::Activity;

/// How HTTP/2 begins (RFC 9113, 3.4); no HTTP/1 request may (`PRI` is reserved
/// for this), so four bytes tell the two apart.
const PREFACE: [u8; 4] = *b"PRI ";

/// One read takes no more: the small requests in it are all begun before another
/// connection has its turn.
const MOST_READ_BYTES: usize = 2048;
/// The same for a connection that has more to say than it took the last time.
const MOST_READ_BYTES_OF_MANY: usize = 1024;

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Plain or encrypted.
pub(super) type Transport = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A transport whose first bytes were read ahead, and which notes its reads and
/// writes.
#[derive(Debug)]
pub(super) struct Socket {
    transport: Transport,
    /// What was read ahead and not given out since.
    ahead: io::Take<Cursor<[u8; PREFACE.len()]>>,
    /// Whether the last read took as much as it may.
    has_more: bool,
    activity: Arc<Activity>,
}

impl Socket {
    /// Reads until the protocol is certain; `None` when the other side closes
    /// before that.
    pub(super) async fn sniff(
        mut transport: Transport,
        activity: Arc<Activity>,
    ) -> io::Result<Option<(Protocol, Self)>> {
        let mut ahead = [0; PREFACE.len()];
        let mut filled = 0;
        let protocol = loop {
            let read = transport.read(&mut ahead[filled..]).await?;
            if read == 0 {
                return Ok(None);
            }
            filled += read;
            if ahead[..filled] != PREFACE[..filled] {
                break Protocol::Http1;
            }
            if filled == PREFACE.len() {
                break Protocol::Http2;
            }
        };
        let socket = Self {
            transport,
            ahead: io::Read::take(Cursor::new(ahead), filled as u64),
            has_more: false,
            activity,
        };
        Ok(Some((protocol, socket)))
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.activity.wrote();
        }
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.limit() > 0 {
            let most = buf.remaining().min(PREFACE.len());
            let length = io::Read::read(&mut self.ahead, buf.initialize_unfilled_to(most))?;
            buf.advance(length);
            return Poll::Ready(Ok(()));
        }
        ready!(self.activity.poll_turn(cx));
        let budget = ready!(coop::poll_proceed(cx));
        let most = match self.has_more {
            true => MOST_READ_BYTES_OF_MANY,
            false => MOST_READ_BYTES,
        };
        let most = buf.remaining().min(most);
        let mut piece = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.transport).poll_read(cx, &mut piece))?;
        let length = piece.filled().len();
        buf.advance(length);
        budget.made_progress();
        if length > 0 {
            self.activity.read();
        }
        self.has_more = length == most;
        if self.has_more {
            self.activity.end_turn(cx);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{io::AsyncWriteExt as _, net::TcpListener};

    use super::*;

    async fn read(socket: &mut Socket, most: usize) -> usize {
        socket.activity.begin_turn();
        let mut bytes = vec![0; most];
        socket.read(&mut bytes).await.unwrap()
    }

    #[tokio::test]
    async fn who_has_much_to_say_is_read_in_turn() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        client.write_all(&[b'x'; 8000]).await.unwrap();
        let activity = Arc::new(Activity::accepted_at(tokio::time::Instant::now(), 1));
        let opened = Socket::sniff(Either::Left(server), activity).await;
        let (_, mut socket) = opened.unwrap().unwrap();
        let ahead = usize::try_from(socket.ahead.limit()).unwrap();
        assert_eq!(read(&mut socket, 8000).await, ahead);

        // One poll of its task: a piece, and then it is the others' turn.
        let (mut first, mut second) = ([0; 8000], [0; 8000]);
        let (length, is_in_turn) = poll_fn(|cx| {
            socket.activity.begin_turn();
            let mut piece = ReadBuf::new(&mut first);
            let read = Pin::new(&mut socket).poll_read(cx, &mut piece);
            ready!(read).unwrap();
            let mut more = ReadBuf::new(&mut second);
            let again = Pin::new(&mut socket).poll_read(cx, &mut more);
            Poll::Ready((piece.filled().len(), again.is_pending()))
        })
        .await;
        assert_eq!((length, is_in_turn), (MOST_READ_BYTES, true));
        // What is left comes in its turns, and nothing is lost.
        let mut left = 8000 - ahead - length;
        while left > 0 {
            let length = read(&mut socket, 8000).await;
            assert_eq!(length, left.min(MOST_READ_BYTES_OF_MANY));
            left -= length;
        }
        client.write_all(&[b'x'; 10]).await.unwrap();
        assert_eq!(read(&mut socket, 8000).await, 10);
    }
}

//! Fails a connection whose peer stops reading. Otherwise its unwritten bytes, and the handler that produces
//! them, would be kept for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Instant, Sleep, sleep};

/// Passes reads and writes on, and fails a write that makes no progress for `write_timeout`.
pub(super) struct Stall<T> {
    io: T,
    write_timeout: Duration,
    /// `write_timeout` after writing stopped.
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<T> Stall<T> {
    pub(super) fn new(io: T, write_timeout: Duration) -> Self {
        Self {
            io,
            write_timeout,
            deadline: Box::pin(sleep(write_timeout)),
            waiting: false,
        }
    }

    /// Passes progress on. Without progress, it also waits for the deadline.
    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.waiting = false;
            return written;
        }
        if !self.waiting {
            self.waiting = true;
            self.deadline
                .as_mut()
                .reset(Instant::now() + self.write_timeout);
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer stopped reading",
        )))
    }
}

impl<T: Read + Unpin> Read for Stall<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: Write + Unpin> Write for Stall<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stops_reading_is_given_up() {
        let (ours, _theirs) = duplex(10);
        let mut stall = TokioIo::new(Stall::new(TokioIo::new(ours), TIMEOUT));
        let started = Instant::now();
        let failed = stall.write_all(&[0; 100]).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_slowly_is_not() {
        let (ours, mut theirs) = duplex(10);
        let mut stall = TokioIo::new(Stall::new(TokioIo::new(ours), TIMEOUT));
        let reading = tokio::spawn(async move {
            let mut byte = [0];
            let mut count = 0;
            while theirs.read_exact(&mut byte).await.is_ok() {
                count += 1;
                sleep(TIMEOUT / 2).await;
            }
            count
        });
        let writing = async {
            stall.write_all(&[0; 100]).await.unwrap();
            stall.shutdown().await.unwrap();
        };
        timeout(TIMEOUT * 100, writing).await.unwrap();
        drop(stall);
        assert_eq!(reading.await.unwrap(), 100);
    }
}

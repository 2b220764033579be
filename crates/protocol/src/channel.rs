//! The worker's blocking end of the socket pair. (The supervisor's end is asynchronous: `process`.)

use crate::codec::{DecodeError, EncodeError, MESSAGE_BYTES_MAX, decode, encode};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

/// One end of a socket pair: reads `R`, writes `W`. Cloning shares the socket, so that one thread can
/// read while another writes.
#[derive(Debug)]
pub struct Channel<R, W> {
    socket: Arc<OwnedFd>,
    types: PhantomData<fn(W) -> R>,
}

impl<R, W> Clone for Channel<R, W> {
    fn clone(&self) -> Self {
        Self {
            socket: Arc::clone(&self.socket),
            types: PhantomData,
        }
    }
}

/// The conversation broke.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other side is gone.
    #[error("the other side closed the channel")]
    Closed,
    /// The kernel refused.
    #[error("channel: {0}")]
    Io(#[from] io::Error),
    /// What came is not a message.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// What should go is not a message.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A message longer than the limit was cut by the kernel.
    #[error("a message was longer than {MESSAGE_BYTES_MAX} bytes")]
    Truncated,
}

impl<R: DeserializeOwned, W: Serialize> Channel<R, W> {
    /// Wraps a connected `SOCK_SEQPACKET` socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket: Arc::new(socket),
            types: PhantomData,
        }
    }

    /// Sends one message and, with it, at most one descriptor.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub fn send(&self, message: &W, fd: Option<BorrowedFd<'_>>) -> Result<(), ChannelError> {
        let bytes = encode(message)?;
        let fds: Vec<_> = fd.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let sent = retry(|| {
            sendmsg(
                &*self.socket,
                &[IoSlice::new(&bytes)],
                &mut control,
                SendFlags::NOSIGNAL,
            )
        });
        match sent {
            Ok(_) => Ok(()),
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => {
                Err(ChannelError::Closed)
            }
            Err(errno) => Err(ChannelError::Io(errno.into())),
        }
    }

    /// Waits for one message and the descriptor that came with it.
    ///
    /// # Errors
    /// [`ChannelError::Closed`] when the other side is gone; otherwise what was wrong with the message.
    pub fn receive(&self) -> Result<(R, Option<OwnedFd>), ChannelError> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = retry(|| {
            recvmsg(
                &*self.socket,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )
        });
        let received = match received {
            Ok(received) => received,
            Err(rustix::io::Errno::CONNRESET) => return Err(ChannelError::Closed),
            Err(errno) => return Err(ChannelError::Io(errno.into())),
        };
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(ChannelError::Truncated);
        }
        // A message is never empty, so zero bytes mean the end of the conversation (recvmsg(2)).
        if received.bytes == 0 {
            return Err(ChannelError::Closed);
        }
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        Ok((decode(&bytes[..received.bytes])?, fd))
    }
}

impl<R, W> AsFd for Channel<R, W> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<R, W> AsRawFd for Channel<R, W> {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Attempt, FromWorker, ToWorker};
    use crate::pixels::Pixels;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    type Ends = (Channel<FromWorker, ToWorker>, Channel<ToWorker, FromWorker>);

    fn ends() -> Ends {
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        (Channel::new(a), Channel::new(b))
    }

    #[test]
    fn messages_keep_their_order_and_their_descriptor() {
        let (supervisor, worker) = ends();
        let pixels = Pixels::new(b"rgb").unwrap();
        supervisor
            .send(&ToWorker::Ping { nonce: 7 }, Some(pixels.as_fd()))
            .unwrap();
        supervisor.send(&ToWorker::Shutdown, None).unwrap();
        let (first, fd) = worker.receive().unwrap();
        assert_eq!(first, ToWorker::Ping { nonce: 7 });
        assert_eq!(
            Pixels::accept(fd.unwrap(), 3).unwrap().read().unwrap(),
            b"rgb"
        );
        assert!(matches!(
            worker.receive().unwrap(),
            (ToWorker::Shutdown, None)
        ));
    }

    #[test]
    fn a_closed_peer_is_the_end_of_the_conversation() {
        let (supervisor, worker) = ends();
        drop(supervisor);
        assert!(matches!(worker.receive(), Err(ChannelError::Closed)));
        let cancel = FromWorker::Started {
            attempt: Attempt {
                job: [0; 16],
                number: 1,
            },
        };
        assert!(matches!(
            worker.send(&cancel, None),
            Err(ChannelError::Closed)
        ));
    }

    #[test]
    fn garbage_is_refused_by_name() {
        let (supervisor, worker) = ends();
        rustix::net::send(&supervisor, b"\xff\xff\xff", SendFlags::empty()).unwrap();
        assert!(matches!(worker.receive(), Err(ChannelError::Decode(_))));
    }
}

//! The worker's side of the descriptor that it was born with.

use crate::launch::CHANNEL_FD;
use reel_protocol::{Channel, FromWorker, ToWorker};
use rustix::net::sockopt::socket_type;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The worker was not started by a supervisor.
#[derive(Debug, thiserror::Error)]
#[error(
    "descriptor {fd} is not the supervisor's channel ({source}); workers are started by `reel serve`"
)]
pub struct InheritError {
    fd: RawFd,
    source: io::Error,
}

/// Takes the channel at descriptor [`CHANNEL_FD`]. To be called once, before anything else opens files.
///
/// # Errors
/// When the descriptor is closed or is not a `SOCK_SEQPACKET` socket.
pub fn channel() -> Result<Channel<ToWorker, FromWorker>, InheritError> {
    let refused = |source| InheritError {
        fd: CHANNEL_FD,
        source,
    };
    // SAFETY: fcntl(2) with F_GETFD reads a flag of a descriptor number; any number is allowed.
    if unsafe { libc::fcntl(CHANNEL_FD, libc::F_GETFD) } < 0 {
        return Err(refused(io::Error::last_os_error()));
    }
    // SAFETY: the descriptor is open (just seen), and nothing closes it during this call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(CHANNEL_FD) };
    match socket_type(borrowed) {
        Ok(rustix::net::SocketType::SEQPACKET) => {}
        Ok(_) => return Err(refused(io::Error::other("another kind of socket"))),
        Err(errno) => return Err(refused(errno.into())),
    }
    // SAFETY: the descriptor is open and was made for this process alone; this function is its only taker.
    Ok(Channel::new(unsafe { OwnedFd::from_raw_fd(CHANNEL_FD) }))
}

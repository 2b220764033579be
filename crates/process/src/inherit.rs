//! The worker's side of the descriptors that it was born with.

use crate::launch::{CHANNEL_FD, FLIGHT_FD};
use reel_protocol::{Channel, FlightRecorder, FromWorker, ToWorker};
use rustix::fs::fcntl_get_seals;
use rustix::net::sockopt::socket_type;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The worker was not started by a supervisor.
#[derive(Debug, thiserror::Error)]
#[error("descriptor {fd} is not the supervisor's ({source}); workers are started by `reel serve`")]
pub struct InheritError {
    fd: RawFd,
    source: io::Error,
}

/// Takes the channel at descriptor [`CHANNEL_FD`]. To be called once, before anything else opens files.
///
/// # Errors
/// When the descriptor is closed or is not a `SOCK_SEQPACKET` socket.
pub fn channel() -> Result<Channel<ToWorker, FromWorker>, InheritError> {
    let is_channel = |fd: BorrowedFd<'_>| match socket_type(fd)? {
        rustix::net::SocketType::SEQPACKET => Ok(()),
        _ => Err(io::Error::other("another kind of socket")),
    };
    Ok(Channel::new(take(CHANNEL_FD, is_channel)?))
}

/// Takes the flight recorder at descriptor [`FLIGHT_FD`]. To be called once, before anything else opens files.
///
/// # Errors
/// When the descriptor is closed or is not a memory file.
pub fn flight() -> Result<FlightRecorder, InheritError> {
    let is_memory = |fd: BorrowedFd<'_>| match fcntl_get_seals(fd) {
        Ok(seals) if !seals.is_empty() => Ok(()),
        Ok(_) => Err(io::Error::other("not sealed")),
        Err(errno) => Err(errno.into()),
    };
    let file = File::from(take(FLIGHT_FD, is_memory)?);
    Ok(FlightRecorder::inherited(file))
}

fn take(
    fd: RawFd,
    is_right: impl Fn(BorrowedFd<'_>) -> io::Result<()>,
) -> Result<OwnedFd, InheritError> {
    let refused = |source| InheritError { fd, source };
    // SAFETY: fcntl(2) with F_GETFD reads a flag of a descriptor number; any number is allowed.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(refused(io::Error::last_os_error()));
    }
    // SAFETY: the descriptor is open (just seen), and nothing closes it during this call.
    is_right(unsafe { BorrowedFd::borrow_raw(fd) }).map_err(refused)?;
    // SAFETY: the descriptor is open and was made for this process alone; each is taken once, by the functions above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

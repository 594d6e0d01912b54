// SPDX-License-Identifier: GPL-2.0-only

//! The Unix socket between client and compositor, as Wayland has one: messages that are a frame
//! number, and a file descriptor once.

use anyhow::{Context, Result, ensure};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    io::{IoSlice, IoSliceMut},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg,
        socketpair,
    },
};
use std::mem::MaybeUninit;

/// Both ends of a new channel. They stay open in child processes that inherit them as stdin.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("socketpair")
}

/// Sends a frame number. `false` if nobody is there to read it.
pub fn send_frame(channel: impl AsFd, frame: u64) -> Result<bool> {
    match send(channel, &frame.to_ne_bytes(), SendFlags::NOSIGNAL) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Ok(false),
        Err(error) => Err(error).context("send"),
    }
}

/// Receives a frame number. `None` once the other end is closed.
pub fn recv_frame(channel: impl AsFd) -> Result<Option<u64>> {
    let mut bytes = [0; 8];
    let (len, _) = match recv(channel, &mut bytes, RecvFlags::empty()) {
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        result => result.context("recv")?,
    };
    if len == 0 {
        return Ok(None);
    }
    ensure!(len == bytes.len(), "a message of {len} bytes");
    Ok(Some(u64::from_ne_bytes(bytes)))
}

/// Sends a file descriptor.
pub fn send_fd(channel: impl AsFd, fd: BorrowedFd<'_>) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    ensure!(
        ancillary.push(SendAncillaryMessage::ScmRights(&fds)),
        "no room for a file descriptor"
    );
    sendmsg(
        channel,
        &[IoSlice::new(&[0])],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )
    .context("sendmsg")?;
    Ok(())
}

/// Receives a file descriptor.
pub fn recv_fd(channel: impl AsFd) -> Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        channel,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )
    .context("recvmsg")?;
    ancillary
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
        .context("the client sent no file descriptor")
}

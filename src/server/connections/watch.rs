//! What one connection waits for, written by its own thread and read by whoever looks after all of
//! them.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::Context;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::server) enum Phase {
    /// Its TLS handshake.
    Handshake,
    /// A head has begun to come in; the first one is expected as soon as there is a connection.
    Head,
    /// The next request may come or not.
    Idle,
    /// A request is worked on: nobody waits for the client.
    Serving,
    /// The body of a request is waited for.
    Receiving,
    /// The client is to take more of a response.
    Sending,
    /// We are done, and the client may still send.
    Lingering,
}

impl Phase {
    pub(in crate::server) const ALL: [Self; 7] = [
        Self::Handshake,
        Self::Head,
        Self::Idle,
        Self::Serving,
        Self::Receiving,
        Self::Sending,
        Self::Lingering,
    ];

    /// For a metric.
    pub(in crate::server) fn label(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Head => "head",
            Self::Idle => "idle",
            Self::Serving => "serving",
            Self::Receiving => "receiving",
            Self::Sending => "sending",
            Self::Lingering => "lingering",
        }
    }
}

/// Why a connection was ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Ending {
    Handshake,
    Head,
    Idle,
    Body,
    Response,
    Linger,
    /// To make room for another one.
    Shed,
    /// There was no room for it.
    Refused,
}

impl Ending {
    pub(in crate::server) const ALL: [Self; 8] = [
        Self::Handshake,
        Self::Head,
        Self::Idle,
        Self::Body,
        Self::Response,
        Self::Linger,
        Self::Shed,
        Self::Refused,
    ];

    /// For a metric.
    pub(in crate::server) fn label(self) -> &'static str {
        match self {
            Self::Handshake => "slow_handshake",
            Self::Head => "slow_head",
            Self::Idle => "idle",
            Self::Body => "slow_body",
            Self::Response => "slow_reader",
            Self::Linger => "linger",
            Self::Shed => "shed",
            Self::Refused => "refused",
        }
    }
}

/// What one connection waits for, and since when.
#[derive(Debug)]
pub(in crate::server) struct Watch {
    origin: Instant,
    address: Option<IpAddr>,
    phase: AtomicU8,
    /// Milliseconds from `origin` to when the phase began; of a body, to when waiting for its next
    /// milestone would have begun if it had been waited for without a break.
    since: AtomicU64,
    /// Milliseconds that were waited for the next milestone, before somebody stopped waiting.
    waited: AtomicU64,
    /// Bytes of the body since the last milestone.
    received: AtomicU64,
    /// Bytes have come since a first head was expected.
    spoken: AtomicBool,
    /// The response is complete, but for what is buffered.
    answered: AtomicBool,
    /// The socket takes nothing for now.
    blocked: AtomicBool,
    /// Whoever has more to send once it does.
    sender: AtomicWaker,
    /// There is, or may be, more to read before the connection can be closed without a reset.
    unread: AtomicBool,
    /// Length of the body that was left unread, if it is known and not out of all bounds; or 0.
    unread_length: AtomicU64,
    pub(super) ended: AtomicBool,
    end: Notify,
}

impl Watch {
    pub(super) fn new(origin: Instant, address: Option<IpAddr>, phase: Phase) -> Self {
        let watch = Self {
            origin,
            address,
            phase: AtomicU8::new(phase as u8),
            since: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            received: AtomicU64::new(0),
            spoken: AtomicBool::new(false),
            answered: AtomicBool::new(true),
            blocked: AtomicBool::new(false),
            sender: AtomicWaker::new(),
            unread: AtomicBool::new(false),
            unread_length: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            end: Notify::new(),
        };
        watch.since.store(watch.now(), Relaxed);
        watch
    }

    /// Whose connections it counts among; none if it comes from a trusted proxy.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    pub(in crate::server) fn phase(&self) -> Phase {
        let phase = usize::from(self.phase.load(Relaxed));
        Phase::ALL.get(phase).copied().unwrap_or(Phase::Serving)
    }

    /// A new phase begins now.
    pub(in crate::server) fn enter(&self, phase: Phase) {
        self.since.store(self.now(), Relaxed);
        self.phase.store(phase as u8, Relaxed);
    }

    /// Bytes have come in.
    pub(in crate::server) fn bytes_came(&self) {
        self.spoken.store(true, Relaxed);
        if self.phase() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// The handshake is over.
    pub(in crate::server) fn expect_first_head(&self) {
        self.spoken.store(false, Relaxed);
        self.enter(Phase::Head);
    }

    /// Whether the client has asked for nothing yet.
    pub(in crate::server) fn is_silent(&self) -> bool {
        !self.spoken.load(Relaxed)
    }

    /// A request's head is there.
    pub(in crate::server) fn begin_request(&self) {
        self.waited.store(0, Relaxed);
        self.received.store(0, Relaxed);
        self.answered.store(false, Relaxed);
        self.enter(Phase::Serving);
    }

    /// A response is out, but for what is buffered.
    pub(in crate::server) fn end_request(&self) {
        self.answered.store(true, Relaxed);
        if self.phase() != Phase::Sending {
            self.enter(Phase::Idle);
        }
    }

    /// The handler wants more of the body than there is.
    pub(in crate::server) fn wait_for_body(&self) {
        if self.phase() != Phase::Receiving {
            self.since.store(self.now().saturating_sub(self.waited.load(Relaxed)), Relaxed);
            self.phase.store(Phase::Receiving as u8, Relaxed);
        }
    }

    /// The handler has got some of the body.
    pub(in crate::server) fn body_came(&self, count: usize) {
        let received = self.received.load(Relaxed) + count as u64;
        let is_milestone = received >= MILESTONE;
        self.received.store(if is_milestone { 0 } else { received }, Relaxed);
        if self.phase() == Phase::Receiving {
            self.waited.store(self.now().saturating_sub(self.since.load(Relaxed)), Relaxed);
            self.enter(Phase::Serving);
        }
        if is_milestone {
            self.waited.store(0, Relaxed);
        }
    }

    /// The socket takes no more of a response for now. Only the kernel knows what of it has
    /// arrived, and it says no more than that there is room again: so time counts from there,
    /// whatever the number of bytes.
    pub(in crate::server) fn wait_for_room(&self) {
        self.blocked.store(true, Relaxed);
        if matches!(self.phase(), Phase::Serving | Phase::Idle) {
            self.enter(Phase::Sending);
        }
    }

    /// The socket has taken some of a response.
    pub(in crate::server) fn room_came(&self) {
        if self.blocked.swap(false, Relaxed) {
            self.sender.wake();
        }
        if self.phase() == Phase::Sending {
            self.enter(if self.answered.load(Relaxed) { Phase::Idle } else { Phase::Serving });
        }
    }

    /// Whether the client is behind with what it was sent; if so, the task is woken once it is not.
    pub(in crate::server) fn is_client_behind(&self, cx: &Context<'_>) -> bool {
        self.sender.register(cx.waker());
        self.blocked.load(Relaxed)
    }

    /// A request is answered without having been read; `length` is its body's, if that is known.
    pub(in crate::server) fn leave_unread(&self, length: Option<u64>) {
        self.unread_length.store(length.filter(|it| *it <= MAX_UNREAD).unwrap_or(0), Relaxed);
        self.unread.store(true, Relaxed);
    }

    /// How much may be thrown away before the connection is closed. TLS adds 22 bytes or more to
    /// each record, and some clients make short ones.
    pub(in crate::server) fn may_throw_away(&self) -> u64 {
        (2 * self.unread_length.load(Relaxed)).max(THROWN_AWAY_AT_LEAST)
    }

    /// Bytes were thrown away. Many clients look for an answer once they have sent all of a body,
    /// so one whose end is known is waited for as long as it comes.
    pub(in crate::server) fn threw_away(&self, count: usize) {
        let received = self.received.load(Relaxed) + count as u64;
        let is_milestone = received >= MILESTONE && self.unread_length.load(Relaxed) > 0;
        self.received.store(if is_milestone { 0 } else { received }, Relaxed);
        if is_milestone {
            self.enter(Phase::Lingering);
        }
    }

    /// Whether to wait for the client before the socket is closed: closing one with unread bytes
    /// resets the connection, and the client may then never see the response (RFC 9112, 9.6).
    pub(in crate::server) fn must_linger(&self) -> bool {
        self.unread.load(Relaxed) || self.phase() == Phase::Head
    }

    /// How long the connection has waited for its client, if it does.
    pub(super) fn waits_for_its_client(&self) -> Option<Duration> {
        let waited = self.now().saturating_sub(self.since.load(Relaxed));
        (self.phase() != Phase::Serving).then(|| Duration::from_millis(waited))
    }

    /// Whether nobody has ended it yet; it is ended then.
    pub(super) fn may_end(&self) -> bool {
        !self.ended.swap(true, Relaxed)
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Relaxed);
        self.end.notify_one();
    }

    /// Waits until the connection is to end now.
    pub(in crate::server) async fn is_over(&self) {
        self.end.notified().await;
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Bytes of a body after which the time for the next ones begins anew: drops are no progress.
pub(super) const MILESTONE: u64 = 16 * 1024;
/// What is thrown away of a body whose end is not known, in the time of one milestone: 64 MiB.
const THROWN_AWAY_AT_LEAST: u64 = 64 * 1024 * 1024;
/// Whoever announces more than 64 GiB does not look for an answer at its end.
const MAX_UNREAD: u64 = 64 * 1024 * 1024 * 1024;

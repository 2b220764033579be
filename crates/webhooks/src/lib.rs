//! Tells clients that their jobs have ended: at least once, signed, from the journal.
//!
//! A job that wants its end told owes a callback from the very write that makes it terminal. The [`Courier`] delivers
//! what is owed, tries again with growing pauses, and forgets a callback only when its receiver has taken it, or for
//! good reason never will. What was under way when the process ended is delivered again by the next one: the id of a
//! message stays the same, so that its receiver can tell.
//!
//! - `courier`: what is due, in its time, a few at once
//! - `message`: what is sent, in the form of OpenAI's webhooks, signed as the Standard Webhooks specification says
#![forbid(unsafe_code)]

mod courier;
mod message;

pub use courier::{BACK_OFF, Courier, DELIVERIES_AT_ONCE_MAX, DELIVERIES_OF_TENANT_MAX, Parts};
pub use message::Message;

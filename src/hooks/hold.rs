//! A listener that needs time.

use tokio::sync::oneshot;

use super::Subject;

/// What an addon says at a hook.
#[derive(Debug)]
pub enum Flowed {
    /// Go on at once.
    Continue,
    /// Wait until the ticket is answered.
    Hold(Ticket),
}

type Edit = Box<dyn FnOnce(Subject<'_>) + Send>;

/// The conversation's half of a hold.
pub struct Ticket(oneshot::Receiver<Edit>);

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticket")
    }
}

/// The addon's half of a hold. Dropping it lets the flow go on unchanged. May be answered from another thread.
pub struct Answer(oneshot::Sender<Edit>);

/// A hold: the ticket goes to the conversation, the answer stays with the addon.
pub fn hold() -> (Answer, Ticket) {
    let (sender, receiver) = oneshot::channel();
    (Answer(sender), Ticket(receiver))
}

impl Answer {
    /// Lets the flow go on, unchanged.
    pub fn go_on(self) {
        drop(self.0);
    }

    /// Changes what the hook was about, on the worker, and lets the flow go on.
    pub fn apply(self, edit: impl FnOnce(Subject<'_>) + Send + 'static) {
        // a flow that ended meanwhile needs no answer
        let _ = self.0.send(Box::new(edit));
    }

    /// The flow has ended meanwhile: an answer changes nothing.
    pub fn is_moot(&self) -> bool {
        self.0.is_closed()
    }
}

impl Ticket {
    pub(super) async fn answered(self) -> Option<Edit> {
        self.0.await.ok()
    }
}

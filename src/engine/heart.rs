//! Signs of life: to the redirect rules, so that a segment is not cut off with us, and to systemd.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::ToWorker;
use crate::redirect::heartbeat::Heartbeat;

/// How often.
pub(super) const BEAT: Duration = Duration::from_millis(500);
/// A worker that does not answer within this time hangs.
const ANSWER: Duration = Duration::from_millis(700);

/// Beats while every worker answers.
pub(super) struct Heart {
    ports: Vec<Heartbeat>,
    said: bool,
    hung: bool,
}

impl Heart {
    pub(super) fn new(ports: &[u16]) -> Self {
        Self { ports: ports.iter().map(|port| Heartbeat::new(*port)).collect(), said: false, hung: false }
    }

    /// Asks every worker; if all answer, tells the rules and systemd.
    pub(super) async fn beat(&mut self, workers: &[mpsc::Sender<ToWorker>]) {
        if !all_answer(workers).await {
            if !self.hung {
                tracing::error!(
                    "a worker does not answer: redirect rules with --on-failure open now bypass us"
                );
            }
            self.hung = true;
            return;
        }
        self.hung = false;
        for port in &mut self.ports {
            match port.beat() {
                Ok(_) => self.said = false,
                Err(error) if !self.said => {
                    tracing::warn!("the redirect rules cannot be told that we live: {error}");
                    self.said = true;
                }
                Err(_) => {}
            }
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
    }

    /// New connections bypass us from now on.
    pub(super) fn stop(&mut self) {
        for port in &mut self.ports {
            port.stop();
        }
    }
}

async fn all_answer(workers: &[mpsc::Sender<ToWorker>]) -> bool {
    let mut answers = Vec::with_capacity(workers.len());
    for worker in workers {
        let (sender, receiver) = oneshot::channel();
        if worker.try_send(ToWorker::Ping(sender)).is_err() {
            return false;
        }
        answers.push(receiver);
    }
    let all = async {
        for answer in answers {
            if answer.await.is_err() {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(ANSWER, all).await.unwrap_or(false)
}

//! When ringtap dies, the segment does what its operator chose: goes on without it, or stops.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::lab::client::{ORIGIN_ISSUER, Trust};
use crate::lab::daemon::TRANSPARENT;
use crate::lab::{Lab, eventually, now};

#[test]
fn after_kill_9_clients_are_online_again_within_two_seconds() {
    let lab = Lab::alone();
    let mut daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect_with("redirect", &["--on-failure", "open"]);
    let issuer_is_the_origins = || {
        let client = lab.client().trusting(Trust::Both).within(Duration::from_millis(500));
        let reply = client.curl(["https://example.test/1k"]);
        (reply.exit == 0 && reply.status == 200).then(|| reply.issuer().contains(ORIGIN_ISSUER))
    };
    assert_eq!(issuer_is_the_origins(), Some(false), "intercepted");

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                lab.client().trusting(Trust::Both).curl(["http://example.test/100k"]);
            }
        });
        // set when we leave, by a panic too: else the traffic would never end
        let _traffic = StopOnDrop(&done);
        let killed = now();
        daemon.kill9();
        let bypassed = || (issuer_is_the_origins() == Some(true)).then_some(());
        // the loop itself is given more, so that a miss is told with its figure
        eventually("the origin's own certificate", Duration::from_secs(20), bypassed);
        let offline = killed.elapsed();
        assert!(offline < Duration::from_secs(2), "offline for {offline:?}");
    });

    let _again = lab.start_ringtap(&TRANSPARENT);
    let intercepted = || (issuer_is_the_origins() == Some(false)).then_some(());
    eventually("intercepted again after a restart", Duration::from_secs(5), intercepted);
}

#[test]
fn with_on_failure_closed_nothing_passes_unseen() {
    let lab = Lab::new();
    let mut daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect_with("redirect", &["--on-failure", "closed"]);
    lab.client().curl(["https://example.test/1k"]).expect_status(200);
    daemon.kill9();
    let killed = now();
    while killed.elapsed() < Duration::from_secs(4) {
        for url in ["http://example.test/1k", "https://example.test/1k"] {
            let reply = lab.client().trusting(Trust::Both).within(Duration::from_millis(500)).curl([url]);
            assert_ne!(reply.exit, 0, "{url} passed: {}", reply.heads);
        }
    }
    let _again = lab.start_ringtap(&TRANSPARENT);
    eventually("served again after a restart", Duration::from_secs(5), || {
        (lab.client().curl(["https://example.test/1k"]).status == 200).then_some(())
    });
}

#[test]
fn removed_rules_leave_plain_forwarding() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&TRANSPARENT);
    for via in ["redirect", "tproxy"] {
        lab.redirect(via);
        lab.client().curl(["https://example.test/1k"]).expect_status(200);
        lab.ringtap(&["redirect", "remove"]).succeeded();
        let reply = lab.client().trusting(Trust::Both).curl(["https://example.test/1k"]).expect_status(200);
        assert!(reply.issuer().contains(ORIGIN_ISSUER), "{via}: {}", reply.issuer());
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

//! Dialogues of raw TCP.

use std::io::ErrorKind;

use crate::flow::KILLED_MESSAGE;
use crate::hooks::{Hook, Hooks};
use crate::testing::Playbook;

const ORIGIN: &str = "203.0.113.5:25";

fn talking() -> Playbook {
    Playbook::transparent(ORIGIN)
        .client_sends("\x01hello")
        .connects(ORIGIN)
        .server_gets("\x01hello")
        .server_sends("\x02world")
        .client_gets("\x02world")
}

#[test]
fn messages_pass_both_ways_and_are_recorded() {
    talking()
        .only_as_written()
        .client_closes()
        .server_sees_end()
        .server_closes()
        .client_sees_end()
        .tcp_flow(|flow| {
            let said: Vec<_> = flow.messages.iter().map(|m| (m.from_client, &m.content[..])).collect();
            assert_eq!(said, [(true, &b"\x01hello"[..]), (false, &b"\x02world"[..])]);
            assert!(flow.meta.error.is_none());
        })
        .play();
}

#[test]
fn bytes_pass_whatever_their_pieces() {
    talking().play();
}

#[test]
fn hooks_run_in_order() {
    Playbook::transparent(ORIGIN)
        .only_as_written()
        .wants(Hooks::TCP)
        .client_sends("\x01hello")
        .connects(ORIGIN)
        .hook(Hook::TcpStart)
        .hook(Hook::TcpMessage)
        .server_gets("\x01hello")
        .server_sends("\x02world")
        .hook(Hook::TcpMessage)
        .client_gets("\x02world")
        .client_closes()
        .server_closes()
        .hook(Hook::TcpEnd)
        .play();
}

#[test]
fn each_side_may_close_and_listen_on() {
    talking()
        .client_closes()
        .server_sees_end()
        .server_sends("more")
        .client_gets("more")
        .server_closes()
        .client_sees_end()
        .play();
    talking()
        .server_closes()
        .client_sees_end()
        .client_sends("more")
        .server_gets("more")
        .client_closes()
        .server_sees_end()
        .play();
}

#[test]
fn addons_change_and_drop_messages() {
    Playbook::transparent(ORIGIN)
        .only_as_written()
        .edits_tcp(Hook::TcpMessage, |flow| {
            let message = flow.messages.last_mut().unwrap();
            message.content = match &message.content[..] {
                b"\x01drop" => bytes::Bytes::new(),
                other => other.to_ascii_uppercase().into(),
            };
        })
        .client_sends("\x01hello")
        .connects(ORIGIN)
        .server_gets("\x01HELLO")
        .client_sends("\x01drop")
        .server_sends("\x02world")
        .client_gets("\x02WORLD")
        .play();
}

#[test]
fn a_killed_conversation_ends_both_sides() {
    Playbook::transparent(ORIGIN)
        .wants(Hooks::of(&[Hook::TcpEnd, Hook::TcpError]))
        .edits_tcp(Hook::TcpMessage, |flow| flow.killed = true)
        .client_sends("\x01hello")
        .connects(ORIGIN)
        .hook(Hook::TcpError)
        .client_sees_end()
        .client_closes()
        .server_sees_end()
        .tcp_flow(|flow| assert_eq!(flow.meta.error.as_ref().unwrap().msg, KILLED_MESSAGE))
        .play();
}

#[test]
fn a_conversation_killed_at_its_start_says_nothing() {
    Playbook::transparent(ORIGIN)
        .edits_tcp(Hook::TcpStart, |flow| flow.killed = true)
        .client_sends("\x01hello")
        .connects(ORIGIN)
        .client_sees_end()
        .tcp_flow(|flow| assert_eq!(flow.meta.error.as_ref().unwrap().msg, KILLED_MESSAGE))
        .play();
}

#[test]
fn silence_of_both_sides_ends_the_conversation() {
    talking()
        .passes(599_000)
        .server_sends("x")
        .client_gets("x")
        .passes(599_000)
        .passes(2_000)
        .client_sees_end()
        .tcp_flow(|flow| {
            assert!(flow.meta.error.as_ref().unwrap().msg.contains("no byte for 600 s (tcp_timeout)"));
        })
        .play();
}

#[test]
fn a_server_out_of_reach_resets_the_client() {
    Playbook::transparent(ORIGIN)
        .client_sends("\x01hello")
        .connect_fails(ORIGIN, ErrorKind::ConnectionRefused)
        .client_sees_reset()
        .tcp_flow(|flow| assert!(flow.meta.error.as_ref().unwrap().msg.contains("connection refused")))
        .play();
}

#[test]
fn a_server_may_speak_first() {
    Playbook::transparent(ORIGIN)
        .passes(500)
        .connects(ORIGIN)
        .server_sends("220 mail.test\r\n")
        .client_gets("220 mail.test\r\n")
        .client_sends("QUIT\r\n")
        .server_gets("QUIT\r\n")
        .play();
}

#[test]
fn a_reset_of_one_side_ends_the_other() {
    talking().client_resets().server_sees_reset().play();
    talking().server_resets().client_sees_reset().play();
}

#[test]
fn a_conversation_that_is_killed_by_a_person_is_still_delivered() {
    talking()
        .session_is_killed()
        .client_sees_end()
        .server_sees_end()
        .tcp_flow(|flow| assert_eq!(flow.meta.error.as_ref().unwrap().msg, KILLED_MESSAGE))
        .play();
}

#[test]
fn every_hook_of_a_conversation_may_be_held() {
    Playbook::transparent(ORIGIN)
        .only_as_written()
        .holds(&[Hook::TcpStart, Hook::TcpMessage, Hook::TcpEnd])
        .client_sends("\x01hello")
        .connects(ORIGIN)
        .hook(Hook::TcpStart)
        .passes(1_000)
        .hold_goes_on()
        .hook(Hook::TcpMessage)
        .passes(1_000)
        .answer_hold(|subject| match subject {
            crate::hooks::Subject::Tcp(flow) => flow.messages[0].content = "changed".into(),
            other => panic!("{other:?}"),
        })
        .server_gets("changed")
        .client_closes()
        .server_closes()
        .hook(Hook::TcpEnd)
        .passes(1_000)
        .no_flow()
        .hold_goes_on()
        .tcp_flow(|flow| assert_eq!(&flow.messages[0].content[..], b"changed"))
        .play();
    Playbook::transparent(ORIGIN)
        .holds(&[Hook::TcpError])
        .client_sends("\x01hello")
        .connect_fails(ORIGIN, ErrorKind::ConnectionRefused)
        .hook(Hook::TcpError)
        .passes(1_000)
        .hold_goes_on()
        .client_sees_reset()
        .play();
}

#[test]
fn a_message_that_is_held_keeps_the_other_direction_s_order() {
    Playbook::transparent(ORIGIN)
        .only_as_written()
        .holds(&[Hook::TcpMessage])
        .client_sends("\x01first")
        .connects(ORIGIN)
        .server_sends("\x02second")
        .hold_goes_on()
        .server_gets("\x01first")
        .hold_goes_on()
        .client_gets("\x02second")
        .play();
}

//! The ways in: from an accepted connection to a session that knows where it is going.

use std::io;
use std::rc::Rc;

use thiserror::Error;
use uuid::Uuid;

use crate::addr::OriginalDst;
use crate::config::{ModeSpec, Target};
use crate::connect::{Origin, Refusal};
use crate::flow::{Client, Server};
use crate::proto::{Services, Session, Way, http};
use crate::ring::{TcpStream, sockopt};
use crate::stream::Stream;

/// Why a connection is not taken.
#[derive(Debug, Error)]
pub enum NotTaken {
    /// It was gone before we looked.
    #[error("gone: {0}")]
    Gone(#[from] io::Error),
    /// It is refused.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// A direct hit on a transparent listener.
    #[error(
        "{0} connected to the transparent listener directly: only redirected connections are served there ('ringtap redirect apply'); add --mode regular@PORT for clients that are configured to use a proxy"
    )]
    NotRedirected(std::net::SocketAddr),
}

/// Receives a connection in its mode.
///
/// # Errors
/// Why it is not taken. A client of an HTTP mode has been told.
pub async fn enter(mode: &ModeSpec, tcp: TcpStream, services: &Rc<Services>) -> Result<Session, NotTaken> {
    let speaks_http = match &mode.target {
        Target::Regular => true,
        Target::Reverse { scheme, .. } => scheme.is_http(),
        Target::Transparent => false,
    };
    match admit(mode, &tcp, services) {
        Ok((client, server, way)) => {
            Ok(Session::new(client, server, way, Stream::from(tcp), services.clone()))
        }
        Err(NotTaken::Refused(refusal)) if speaks_http => {
            http::h1::forbid(Stream::from(tcp), &refusal.to_string(), &services.timers).await;
            Err(NotTaken::Refused(refusal))
        }
        Err(other) => Err(other),
    }
}

fn admit(
    mode: &ModeSpec,
    tcp: &TcpStream,
    services: &Rc<Services>,
) -> Result<(Client, Server, Way), NotTaken> {
    let peer = tcp.peer_addr()?;
    let local = tcp.local_addr()?;
    let wanted = || sockopt::original_dst(tcp.as_fd(), local).unwrap_or(local);
    services.policy.check_reentry(peer, wanted)?;
    let mut client = Client {
        id: Uuid::new_v4(),
        peername: Some(peer),
        sockname: Some(local),
        timestamp_start: services.now(),
        proxy_mode: mode.full_spec.clone(),
        ..Client::default()
    };
    let mut server = Server { id: Uuid::new_v4(), ..Server::default() };
    let way = match &mode.target {
        Target::Transparent => {
            let wanted = OriginalDst::from(wanted());
            services.policy.check_destination(wanted.0, Origin::Redirect).map_err(
                |refusal| match refusal {
                    Refusal::Loop(_) => NotTaken::NotRedirected(peer),
                    other => NotTaken::Refused(other),
                },
            )?;
            if wanted.0 != local {
                sockopt::make_ordinary(tcp.as_fd(), local);
            }
            client.sockname = Some(wanted.0);
            server.address = Some((wanted.ip().to_string(), wanted.port()));
            Way::Transparent
        }
        Target::Regular => {
            services.policy.check_client(peer)?;
            Way::Proxy
        }
        Target::Reverse { scheme, host, port } => {
            services.policy.check_client(peer)?;
            server.address = Some((host.clone(), *port));
            server.tls = scheme.is_tls();
            if server.tls {
                server.sni = Some(host.clone());
            }
            if scheme.is_http() && server.tls {
                server.alpn_offers = vec![b"http/1.1".to_vec()];
            }
            Way::Reverse(*scheme)
        }
    };
    Ok((client, server, way))
}

//! HTTPS to servers on this machine: whom a request trusts.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reel_outbound::{FetchError, Hosts, Limits, Outbound, Resolve, Schemes, UrlPolicy};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

const NAME: &str = "images.example";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// Answers every request by this, as [`NAME`]; the port.
fn server(authority: &Authority, answer: &'static [u8]) -> u16 {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([NAME.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that does not trust this server hangs up.
            let _ = respond(stream.unwrap(), config.clone(), answer);
        }
    });
    port
}

fn respond(stream: TcpStream, config: Arc<ServerConfig>, answer: &[u8]) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.extend(byte);
    }
    stream.write_all(answer)?;
    stream.flush()
}

/// Every name is this machine.
#[derive(Debug)]
struct Here;

impl Resolve for Here {
    fn resolve(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![(Ipv4Addr::LOCALHOST, port).into()])
    }
}

fn outbound() -> Outbound {
    Outbound::new(Arc::new(Here), Limits::default())
}

fn fetch(outbound: &Outbound, host: &str, port: u16) -> Result<usize, FetchError> {
    let policy = UrlPolicy {
        schemes: Schemes::HttpsAndHttp,
        hosts: Hosts::Any,
        ports: vec![port],
        private_addresses: true,
    };
    let url = format!("https://{host}:{port}/file");
    outbound.fetch(&policy, &url, 100).map(|file| file.len())
}

const FILE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

#[test]
fn who_has_a_certificate_for_its_name_from_a_trusted_authority_is_asked() {
    let authority = authority();
    let port = server(&authority, FILE);
    let trusting = outbound().trusting(pem(authority.der()).as_bytes());
    assert_eq!(fetch(&trusting.unwrap(), NAME, port), Ok(2));
}

#[test]
fn nobody_else_is_asked() {
    let authority = authority();
    let port = server(&authority, FILE);
    let other = self::authority();
    let [trusting, trusting_another] = [&authority, &other].map(|authority| {
        outbound()
            .trusting(pem(authority.der()).as_bytes())
            .unwrap()
    });
    for (outbound, host) in [
        (&outbound(), NAME),
        (&trusting_another, NAME),
        (&trusting, "other.example"),
        (&trusting, "127.0.0.1"),
    ] {
        let refused = fetch(outbound, host, port);
        let host = host.to_owned();
        assert_eq!(refused, Err(FetchError::Tls { host }));
    }
}

#[test]
fn from_https_no_redirect_leads_to_http() {
    let authority = authority();
    let answer =
        b"HTTP/1.1 302 Found\r\nlocation: http://images.example/\r\ncontent-length: 0\r\n\r\n";
    let port = server(&authority, answer);
    let trusting = outbound().trusting(pem(authority.der()).as_bytes());
    let refused = fetch(&trusting.unwrap(), NAME, port);
    let host = NAME.to_owned();
    assert_eq!(refused, Err(FetchError::Downgrade { host }));
}

#[test]
fn what_is_no_certificate_is_refused() {
    let damaged = "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n";
    for text in ["", "certificate", damaged] {
        assert!(outbound().trusting(text.as_bytes()).is_err(), "{text:?}");
    }
}

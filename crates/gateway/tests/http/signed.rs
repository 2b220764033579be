//! Addresses that open a video without a key.

use crate::server::{Server, Setup};
use axum::http::Method;
use reel_domain::JobId;
use reel_gateway::GatewayConfig;
use serde_json::json;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const VIDEO: &[u8] = b"0123456789";

struct Signed {
    server: Server,
    key: String,
    id: JobId,
    url: String,
}

/// A completed job of a tenant with a key, and the address that its object shows.
async fn signed() -> Signed {
    signed_with(|_| {}).await
}

async fn signed_with(change: impl FnOnce(&mut GatewayConfig)) -> Signed {
    let mut setup = Setup::new();
    change(&mut setup.config);
    let key = setup.key("a", |_| {});
    let server = setup.start();
    let body = Some(json!({"prompt": "a"}));
    let answer = server.ask(&key, Method::POST, "/v1/videos", body).await;
    let id: JobId = answer.json()["id"].as_str().unwrap().parse().unwrap();
    assert!(answer.json()["download_url"].is_null());
    server.pool.complete(id, VIDEO).await;
    let path = format!("/v1/videos/{id}");
    let video = server.ask(&key, Method::GET, &path, None).await.json();
    let url = video["download_url"].as_str().unwrap().to_owned();
    Signed {
        server,
        key,
        id,
        url,
    }
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

#[tokio::test]
async fn a_signed_address_opens_its_video_without_a_key() {
    let Signed { server, url, .. } = signed().await;
    let answer = server.get(&url).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, VIDEO));
    let answer = server.get_with(&url, &[("range", "bytes=2-4")]).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (206, &b"234"[..])
    );
}

#[tokio::test]
async fn it_begins_with_what_clients_write_before_a_path() {
    let Signed { url, .. } =
        signed_with(|config| config.public_url = Some("https://video.example.com".into())).await;
    assert!(
        url.starts_with("https://video.example.com/v1/videos/video_"),
        "{url}"
    );
}

#[tokio::test]
async fn it_opens_nothing_else() {
    let Signed {
        server, url, id, ..
    } = signed().await;
    let (path, query) = url.split_once('?').unwrap();
    let (expires, signature) = query.split_once('&').unwrap();
    let later: u64 = expires.strip_prefix("expires=").unwrap().parse().unwrap();
    let flipped = match signature.ends_with('0') {
        true => format!("{}1", &signature[..signature.len() - 1]),
        false => format!("{}0", &signature[..signature.len() - 1]),
    };
    let other = format!("/v1/videos/video_{}/content", "0".repeat(32));
    for address in [
        format!("{path}?{expires}&{flipped}"),
        format!("{path}?expires={}&{signature}", later + 1),
        format!("{path}?{query}&variant=thumbnail"),
        format!("{path}?{query}&variant=spritesheet"),
        format!("{path}?{expires}&signature=00"),
        format!("{path}?{expires}&signature=zz"),
        format!("{other}?{query}"),
    ] {
        let answer = server.get(&address).await;
        let error = answer.error(403, "wrong_signature");
        assert_eq!(error["param"], "signature", "{address}");
    }
    for query in [expires, signature] {
        let answer = server.get(&format!("{path}?{query}")).await;
        answer.error(400, "missing_required_parameter");
    }
    for path in [
        format!("/v1/videos/{id}?{query}"),
        format!("/v1/videos?{query}"),
    ] {
        server.get(&path).await.error(401, "invalid_api_key");
    }
    let path = format!("/v1/videos/{id}?{query}");
    server.delete(&path).await.error(401, "invalid_api_key");
}

#[tokio::test]
async fn it_ends() {
    let Signed { server, id, .. } = signed().await;
    let path = format!("/v1/videos/{id}/content");
    let query = |expires_s| {
        let tenant = "a".parse().unwrap();
        server.signer.sign(&path, None, &tenant, expires_s)
    };
    let good = format!("{path}?{}", query(now_s() + 1_000));
    assert_eq!(server.get(&good).await.status, 200);
    let answer = server.get(&format!("{path}?{}", query(now_s()))).await;
    assert_eq!(answer.error(403, "address_expired")["param"], "expires");
}

#[tokio::test]
async fn an_address_that_a_server_gives_for_no_time_is_over_at_once() {
    let Signed { server, url, .. } =
        signed_with(|config| config.download_url_lifetime = Duration::ZERO).await;
    server.get(&url).await.error(403, "address_expired");
}

#[tokio::test]
async fn it_says_nothing_of_a_video_that_is_deleted_and_all_of_one_that_expired() {
    let Signed {
        server,
        key,
        id,
        url,
    } = signed().await;
    server.pool.expire(id).await;
    server.get(&url).await.error(410, "video_expired");
    let path = format!("/v1/videos/{id}");
    let video = server.ask(&key, Method::GET, &path, None).await.json();
    assert!(video["download_url"].is_null());
    server.ask(&key, Method::DELETE, &path, None).await;
    server.get(&url).await.error(403, "wrong_signature");
}

#[tokio::test]
async fn an_address_of_a_job_that_is_not_over_opens_nothing_yet() {
    let Signed { server, key, .. } = signed().await;
    let body = Some(json!({"prompt": "a"}));
    let answer = server.ask(&key, Method::POST, "/v1/videos", body).await;
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/videos/{id}/content");
    let tenant = "a".parse().unwrap();
    let query = server.signer.sign(&path, None, &tenant, now_s() + 100);
    let answer = server.get(&format!("{path}?{query}")).await;
    answer.error(404, "video_not_ready");
}

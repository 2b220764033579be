//! Images, from wherever they come.

use crate::server::{Answer, Server, Setup, form};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use image::{DynamicImage, ImageBuffer, ImageFormat, Rgb, Rgba};
use reel_gateway::ImageFetch;
use reel_media::{IMAGE_BYTES_MAX, ImageDecoder};
use reel_outbound::client::Limits;
use reel_outbound::{Hosts, Outbound, Schemes, SystemResolver, UrlPolicy};
use serde_json::{Value, json};
use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

const RED: [u8; 3] = [200, 0, 0];
/// 16x16 pixels of [`RED`] in four colours of ink, as printers have them.
const RED_CMYK: &[u8] = include_bytes!("../images/red-cmyk.jpg");

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// One colour.
pub(crate) fn png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    let image = ImageBuffer::from_pixel(width, height, Rgb(colour));
    encoded(image, ImageFormat::Png)
}

async fn upload(server: &Server, image: &[u8]) -> Answer {
    let (content_type, body) = form(&[("prompt", "a")], Some(("input_reference", image)));
    server.post(&content_type, body).await
}

/// The first frame that the pool got last.
fn given(server: &Server) -> Vec<u8> {
    let submissions = server.pool.submissions.lock().unwrap();
    submissions.last().unwrap().given.clone()
}

#[track_caller]
fn assert_near(got: &[u8], expected: [u8; 3], most: u8) {
    let near = got
        .iter()
        .zip(expected)
        .all(|(got, expected)| got.abs_diff(expected) <= most);
    assert!(near, "{:?} instead of {expected:?}", &got[..3]);
}

#[tokio::test]
async fn images_of_all_kinds_become_a_first_frame() {
    let server = Server::new();
    let deep = ImageBuffer::from_pixel(64, 64, Rgb([200_u16 * 257, 0, 0]));
    let grey = ImageBuffer::from_pixel(64, 64, image::Luma([128_u8]));
    let clear = ImageBuffer::from_pixel(64, 64, Rgba([200_u8, 100, 50, 128]));
    let plain = ImageBuffer::from_pixel(64, 64, Rgb(RED));
    for (name, image, expected, most) in [
        ("png", encoded(plain.clone(), ImageFormat::Png), RED, 0),
        ("jpeg", encoded(plain.clone(), ImageFormat::Jpeg), RED, 8),
        ("webp", encoded(plain, ImageFormat::WebP), RED, 0),
        ("16 bit", encoded(deep, ImageFormat::Png), RED, 0),
        ("grey", encoded(grey, ImageFormat::Png), [128; 3], 0),
        ("alpha", encoded(clear, ImageFormat::Png), [100, 50, 25], 1),
        ("cmyk", RED_CMYK.to_vec(), RED, 24),
    ] {
        let answer = upload(&server, &image).await;
        assert_eq!(answer.status, 200, "{name}: {:?}", answer.body);
        let frame = given(&server);
        assert_eq!(frame.len(), 64 * 64 * 3, "{name}");
        assert_near(&frame, expected, most);
    }
}

#[tokio::test]
async fn a_photo_that_lies_on_its_side_is_turned_upright() {
    let server = Server::new();
    let halves = ImageBuffer::from_fn(64, 64, |x, _| Rgb(if x < 32 { RED } else { [0, 0, 200] }));
    // EXIF orientation 6: the camera was turned, so the picture has to be turned clockwise.
    let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let jpeg = encoded(halves, ImageFormat::Jpeg);
    let mut turned = jpeg[..2].to_vec();
    turned.extend([0xff, 0xe1]);
    turned.extend((u16::try_from(exif.len()).unwrap() + 2).to_be_bytes());
    turned.extend(exif);
    turned.extend(&jpeg[2..]);
    assert_eq!(upload(&server, &turned).await.status, 200);
    let frame = given(&server);
    assert_near(&frame[(5 * 64 + 32) * 3..], RED, 12);
    assert_near(&frame[(58 * 64 + 32) * 3..], [0, 0, 200], 12);
}

#[tokio::test]
async fn what_is_no_image_is_refused_whatever_it_claims() {
    let server = Server::new();
    let whole = png(64, 64, RED);
    for image in [
        &b""[..],
        b"GIF89a\x01\0\x01\0",
        b"<svg/>",
        b"\xff\xd8\xff\xe0 no jpeg",
        &whole[..whole.len() / 2],
    ] {
        let error = upload(&server, image).await.error(400, "invalid_image");
        assert_eq!(error["param"], "input_reference");
    }
    assert!(server.pool.submissions.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_image_may_come_as_a_data_url() {
    let server = Server::new();
    // One red pixel.
    let url = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGM4wcAAAAJcAMlDyBJGAAAAAElFTkSuQmCC";
    for reference in [json!(url), json!({"image_url": url})] {
        let body = json!({"prompt": "a", "input_reference": reference});
        let answer = server.create(&body).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        assert_eq!(answer.json()["mode"], "i2v");
        assert_near(&given(&server), RED, 0);
    }
    for field in ["input_reference", "input_reference[image_url]"] {
        let (content_type, body) = form(&[("prompt", "a"), (field, url)], None);
        let answer = server.post(&content_type, body).await;
        assert_eq!(answer.json()["mode"], "i2v", "{field}");
    }
    let body = json!({"prompt": "a", "input_reference": "data:image/png;base64,aGVsbG8="});
    server.create(&body).await.error(400, "invalid_image");
}

#[tokio::test]
async fn two_images_are_refused() {
    let server = Server::new();
    let image = png(16, 16, RED);
    let file = |name: &str| {
        let head = format!(
            "--XyZ\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.png\"\r\n\r\n"
        );
        [head.as_bytes(), &image, b"\r\n"].concat()
    };
    let body = [
        file("input_reference"),
        file("input_reference"),
        b"--XyZ--\r\n".to_vec(),
    ]
    .concat();
    let answer = server.post("multipart/form-data; boundary=XyZ", body).await;
    let error = answer.error(400, "duplicate_parameter");
    assert_eq!(error["param"], "input_reference");
    let fields = [
        ("prompt", "a"),
        ("input_reference", "data:image/png;base64,YWJj"),
        ("input_reference[image_url]", "https://example.com/a.png"),
    ];
    let (content_type, body) = form(&fields, None);
    let answer = server.post(&content_type, body).await;
    assert_eq!(answer.status, 400, "{:?}", answer.body);
    assert!(server.pool.submissions.lock().unwrap().is_empty());
}

fn named(url: &str) -> Value {
    json!({"prompt": "a", "input_reference": {"image_url": url}})
}

#[tokio::test]
async fn a_server_that_was_not_told_to_fetches_nothing() {
    let server = Server::new();
    let answer = server.create(&named("https://example.com/a.png")).await;
    let error = answer.error(400, "image_url_not_allowed");
    assert_eq!(error["param"], "input_reference");
}

/// Serves images on this machine.
async fn gallery() -> SocketAddr {
    let red = png(64, 64, RED);
    let router = Router::new()
        .route("/red.png", get(move || async move { red.clone() }))
        .route("/text", get(async || "hello"))
        .route("/large", get(async || vec![0; IMAGE_BYTES_MAX + 1]))
        .route("/missing", get(async || StatusCode::NOT_FOUND));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A server that fetches images from this machine.
fn fetching(address: SocketAddr) -> Server {
    let mut setup = Setup::new();
    setup.image_fetch = Some(ImageFetch {
        outbound: Outbound::new(Arc::new(SystemResolver), Limits::default()),
        policy: UrlPolicy {
            schemes: Schemes::HttpsAndHttp,
            hosts: Hosts::Only(vec!["127.0.0.1".parse().unwrap()]),
            ports: vec![address.port()],
            private_addresses: true,
        },
    });
    setup.start()
}

#[tokio::test]
async fn an_image_is_fetched_from_where_it_is_allowed() {
    let address = gallery().await;
    let server = fetching(address);
    let answer = server
        .create(&named(&format!("http://{address}/red.png")))
        .await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(given(&server), RED.repeat(64 * 64));
}

#[tokio::test]
async fn what_cannot_be_fetched_is_told_apart() {
    let address = gallery().await;
    let server = fetching(address);
    for (url, code) in [
        (format!("http://{address}/missing"), "image_not_fetched"),
        (format!("http://{address}/large"), "image_not_fetched"),
        (format!("http://{address}/text"), "invalid_image"),
        (
            "https://example.com/red.png".to_owned(),
            "image_not_fetched",
        ),
        ("http://127.0.0.1:1/red.png".into(), "image_not_fetched"),
    ] {
        let error = server.create(&named(&url)).await.error(400, code);
        assert_eq!(error["param"], "input_reference", "{url}");
    }
    assert!(server.pool.submissions.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_decoder_that_cannot_be_run_is_not_the_images_fault() {
    let mut setup = Setup::new();
    setup.image_decoder = ImageDecoder::new("/nowhere/at/all".into());
    let server = setup.start();
    let answer = upload(&server, &png(16, 16, RED)).await;
    let error = answer.error(503, "overloaded");
    assert!(!error.to_string().contains("nowhere"), "{error}");
    assert_eq!(answer.header("retry-after"), "1");
}

use crate::server::{Answer, Server};
use axum::body::Body;
use axum::http::Request;
use serde_json::Value;

async fn document(server: &Server) -> Value {
    let answer = server.get("/openapi.json").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    answer.json()
}

async fn send(server: &Server, method: &str, path: &str) -> Answer {
    let request = Request::builder().method(method).uri(path);
    server.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn the_document_is_served_as_it_is_made() {
    let made = serde_json::to_value(reel_api::openapi()).unwrap();
    assert_eq!(document(&Server::new()).await, made);
}

#[tokio::test]
async fn every_route_has_the_methods_of_the_document_and_no_others() {
    let server = Server::new();
    for (path, item) in document(&server).await["paths"].as_object().unwrap() {
        // The stream of all jobs has no end, and is read to its end here.
        if path == "/v1/events" {
            continue;
        }
        let path = path.replace("{id}", "video_00000000000000000000000000000000");
        for method in ["get", "post", "delete", "put", "patch"] {
            let answer = send(&server, &method.to_uppercase(), &path).await;
            let described = item.get(method).is_some();
            // What is another video's id to the router is a document's path of its own.
            if !described && path == "/v1/videos/characters" {
                continue;
            }
            assert_eq!(answer.status != 405, described, "{method} {path}");
            let unknown = answer.status == 404 && answer.json()["error"]["code"] == "unknown_route";
            assert!(!unknown, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_page_is_served_with_a_policy_that_lets_nothing_in_from_elsewhere() {
    let server = Server::new();
    let answer = server.get("/docs").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (308, "/docs/")
    );
    for (file, content_type) in [
        ("", "text/html"),
        ("swagger-ui-bundle.js", "text/javascript"),
        ("swagger-ui.css", "text/css"),
        ("swagger-initializer.js", "text/javascript"),
    ] {
        let answer = server.get(&format!("/docs/{file}")).await;
        assert_eq!(answer.status, 200, "{file}");
        assert_eq!(answer.header("content-type"), content_type, "{file}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(
            !policy.contains("unsafe") && !policy.contains("http"),
            "{policy}"
        );
    }
    let script = server.get("/docs/swagger-initializer.js").await;
    let script = String::from_utf8(script.body.to_vec()).unwrap();
    assert!(script.contains(r#""../openapi.json""#), "{script}");
}

#[tokio::test]
async fn the_page_has_its_own_files_and_no_others() {
    let server = Server::new();
    for name in [
        "x",
        "../Cargo.toml",
        "%2e%2e/Cargo.toml",
        "%ff",
        "swagger-ui.css.map",
    ] {
        let answer = server.get(&format!("/docs/{name}")).await;
        answer.error(404, "unknown_route");
    }
}

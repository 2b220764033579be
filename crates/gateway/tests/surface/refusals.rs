use crate::server::{Server, form};
use axum::http::{Request, header};

#[tokio::test]
async fn a_video_that_builds_on_an_earlier_one_takes_no_image() {
    let server = Server::new();
    let id = server.job().await;
    server.pool.complete(id, b"video").await;
    let remix = (format!("/v1/videos/{id}/remix"), vec![("prompt", "a")]);
    let id = id.to_string();
    let extension = (
        "/v1/videos/extensions".to_owned(),
        vec![("prompt", "a"), ("video[id]", id.as_str())],
    );
    for (path, fields) in [remix, extension] {
        let (content_type, body) = form(&fields, Some(("input_reference", b"png")));
        let request = Request::post(path).header(header::CONTENT_TYPE, content_type);
        let answer = server.send(request.body(body.into()).unwrap()).await;
        let error = answer.error(400, "unknown_parameter");
        assert_eq!(error["param"], "input_reference");
    }
    assert_eq!(server.pool.submissions.lock().unwrap().len(), 1);
}

//! An image that comes inside a request, or is only named by it.

use crate::create::IMAGE_FIELD;
use crate::fields::{Fields, Reference};
use crate::invalid::Invalid;
use data_url::DataUrl;

/// The first frame, as JSON and the text fields of a form can give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// The bytes of a `data:` URL.
    Bytes(Vec<u8>),
    /// Where to fetch it. Nothing has been checked about it.
    Url(String),
}

impl ImageSource {
    pub(crate) fn take(fields: &mut Fields) -> Result<Option<Self>, Invalid> {
        match fields.reference(IMAGE_FIELD, &["image_url", "file_id"])? {
            None => Ok(None),
            Some(Reference::Member(member, _)) if member == "file_id" => Err(Invalid::value(
                IMAGE_FIELD,
                "files cannot be uploaded ahead: send the image as a file of a form or as a data URL".into(),
            )),
            Some(Reference::Text(url) | Reference::Member(_, url)) => Self::parse(url).map(Some),
        }
    }

    fn parse(url: String) -> Result<Self, Invalid> {
        if url.starts_with("https://") || url.starts_with("http://") {
            return Ok(Self::Url(url));
        }
        let broken = || {
            let expected =
                "an image as a file of a form, a data URL, or an object with an `image_url`";
            Invalid::wrong_type(IMAGE_FIELD, expected)
        };
        let (bytes, _) = DataUrl::process(&url)
            .map_err(|_| broken())?
            .decode_to_vec()
            .map_err(|_| broken())?;
        Ok(Self::Bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(body: &str) -> Result<Option<ImageSource>, Invalid> {
        ImageSource::take(&mut Fields::from_json(body.as_bytes()).unwrap())
    }

    #[test]
    fn an_image_may_come_as_a_data_url_or_be_named() {
        let bytes = Ok(Some(ImageSource::Bytes(b"abc".to_vec())));
        assert_eq!(
            image(r#"{"input_reference": "data:image/png;base64,YWJj"}"#),
            bytes
        );
        assert_eq!(
            image(r#"{"input_reference": {"image_url": "data:image/png;base64,YWJj"}}"#),
            bytes
        );
        let url = "https://example.com/a.png";
        assert_eq!(
            image(&format!(
                r#"{{"input_reference": {{"image_url": "{url}"}}}}"#
            )),
            Ok(Some(ImageSource::Url(url.into())))
        );
        assert_eq!(image("{}"), Ok(None));
    }

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        for body in [
            r#"{"input_reference": "a.png"}"#,
            r#"{"input_reference": "data:image/png;base64,%%%"}"#,
            r#"{"input_reference": "file:///etc/passwd"}"#,
            r#"{"input_reference": {"file_id": "file-1"}}"#,
            r#"{"input_reference": {"path": "/etc/passwd"}}"#,
            r#"{"input_reference": 7}"#,
        ] {
            let invalid = image(body).unwrap_err();
            assert_eq!(invalid.param.as_deref(), Some(IMAGE_FIELD), "{body}");
        }
    }
}

//! Images that a request only names.

use crate::gateway::{Gateway, blocking};
use crate::respond::ApiError;
use reel_media::IMAGE_BYTES_MAX;
use reel_outbound::{Outbound, UrlPolicy};

/// How images are fetched whose URL a client gives.
#[derive(Debug, Clone)]
pub struct ImageFetch {
    /// Sends the requests.
    pub outbound: Outbound,
    /// Says where they may go.
    pub policy: UrlPolicy,
}

/// The file at `url`.
pub(crate) async fn image(gateway: &Gateway, url: String) -> Result<Vec<u8>, ApiError> {
    let Some(ImageFetch { outbound, policy }) = gateway.image_fetch.clone() else {
        return Err(ApiError::ImageUrlForbidden);
    };
    let _place = gateway
        .image_fetches
        .try_acquire()
        .map_err(|_| ApiError::Shed)?;
    let fetched = blocking(move || outbound.fetch(&policy, &url, IMAGE_BYTES_MAX)).await?;
    Ok(fetched?.into())
}

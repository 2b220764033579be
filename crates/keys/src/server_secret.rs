//! What the server signs webhooks with for tenants that have no key.

use crate::key::WebhookSecret;
use crate::{WEBHOOK_SECRET_FILE_NAME, durable, mint};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why there is no webhook secret.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the webhook secret {}: {source}", path.display())]
pub struct WebhookSecretError {
    path: PathBuf,
    source: io::Error,
}

/// The webhook secret of a data directory, made when there is none yet.
///
/// # Errors
/// When it can be neither read nor made.
pub fn server_webhook_secret(data_dir: &Path) -> Result<WebhookSecret, WebhookSecretError> {
    let path = data_dir.join(WEBHOOK_SECRET_FILE_NAME);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create(&path).and_then(|()| fs::read_to_string(&path))
        }
        read => read,
    };
    match text {
        Ok(text) => Ok(WebhookSecret::new(text.trim().to_owned())),
        Err(source) => Err(WebhookSecretError { path, source }),
    }
}

fn create(path: &Path) -> io::Result<()> {
    let secret = mint::webhook_secret()?;
    path.parent().map_or(Ok(()), durable::private_directory)?;
    // Another process may have been faster: its secret is as good.
    durable::create(path, format!("{secret}\n").as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_secret_is_made_once_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let first = server_webhook_secret(directory.path()).unwrap();
        assert!(first.expose().starts_with("whsec_"));
        assert_eq!(server_webhook_secret(directory.path()).unwrap(), first);
        let file = directory.path().join(WEBHOOK_SECRET_FILE_NAME);
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

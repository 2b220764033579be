//! Addresses that carry their own permission: `?expires=…&signature=…`, for whoever cannot send a header.
//!
//! The signature is HMAC-SHA256 over the path, the variant, the owner's tenant and the moment of expiry, each with its
//! length before it, so that no two different addresses are signed alike.

use crate::{SIGNING_SECRET_FILE_NAME, durable};
use hmac::{Hmac, KeyInit, Mac};
use reel_domain::TenantName;
use sha2::Sha256;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Bytes of the secret.
const SECRET_BYTES: usize = 32;
/// Bytes of a block of SHA-256.
const BLOCK_BYTES: usize = 64;
/// Says what is signed here, so that the secret may sign other things too.
const PURPOSE: &[u8] = b"reel signed url 1";

/// Why there is no signing secret.
#[derive(Debug, thiserror::Error)]
pub enum SigningSecretError {
    /// It cannot be read or written.
    #[error("cannot use the signing secret {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not as long as one.
    #[error(
        "the signing secret {} has {bytes} bytes instead of {SECRET_BYTES}; remove it, and signed addresses of before end",
        path.display()
    )]
    Length {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        bytes: usize,
    },
}

/// Why a signed address opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignedUrlError {
    /// `expires` or `signature` has not the form.
    #[error("the signature of this address cannot be read")]
    Malformed,
    /// It is not ours, or for something else.
    #[error("the signature of this address is wrong")]
    Wrong,
    /// It was good.
    #[error("this address has expired")]
    Expired,
}

/// Makes and checks signed addresses.
#[derive(Clone)]
pub struct UrlSigner {
    mac: Hmac<Sha256>,
}

impl UrlSigner {
    /// With a secret of the caller's.
    #[must_use]
    pub fn new(secret: &[u8; SECRET_BYTES]) -> Self {
        // HMAC fills a key up to a block with zeros itself; filled here, it cannot have a wrong length.
        let mut block = [0; BLOCK_BYTES];
        block[..SECRET_BYTES].copy_from_slice(secret);
        Self {
            mac: Hmac::new(&block.into()),
        }
    }

    /// With the secret of a data directory, made when there is none yet. Two processes that make it at once get the
    /// same one.
    ///
    /// # Errors
    /// When it can be neither read nor made, or is not one.
    pub fn open(data_dir: &Path) -> Result<Self, SigningSecretError> {
        let path = data_dir.join(SIGNING_SECRET_FILE_NAME);
        let failed = |source| SigningSecretError::Io {
            path: path.clone(),
            source,
        };
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create(&path).and_then(|()| fs::read(&path))
            }
            read => read,
        };
        let bytes = bytes.map_err(failed)?;
        let length = bytes.len();
        let secret: [u8; SECRET_BYTES] =
            bytes.try_into().map_err(|_| SigningSecretError::Length {
                path,
                bytes: length,
            })?;
        Ok(Self::new(&secret))
    }

    /// The query of an address that is good until `expires_s`, in seconds since the Unix epoch.
    #[must_use]
    pub fn sign(
        &self,
        path: &str,
        variant: Option<&str>,
        tenant: &TenantName,
        expires_s: u64,
    ) -> String {
        let mac = self.over(path, variant, tenant, expires_s);
        let signature = hex::encode(mac.finalize().into_bytes());
        format!("expires={expires_s}&signature={signature}")
    }

    /// Whether the query's two values are those of [`UrlSigner::sign`], and its time is not up.
    ///
    /// # Errors
    /// See [`SignedUrlError`]; that an address has expired is said only of one that was good.
    pub fn verify(
        &self,
        path: &str,
        variant: Option<&str>,
        tenant: &TenantName,
        expires: &str,
        signature: &str,
        now_s: u64,
    ) -> Result<(), SignedUrlError> {
        let expires_s = seconds(expires).ok_or(SignedUrlError::Malformed)?;
        let signature = hex::decode(signature).map_err(|_| SignedUrlError::Malformed)?;
        self.over(path, variant, tenant, expires_s)
            .verify_slice(&signature)
            .map_err(|_| SignedUrlError::Wrong)?;
        match now_s < expires_s {
            true => Ok(()),
            false => Err(SignedUrlError::Expired),
        }
    }

    fn over(
        &self,
        path: &str,
        variant: Option<&str>,
        tenant: &TenantName,
        expires_s: u64,
    ) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        let variant = variant.unwrap_or_default();
        for part in [
            PURPOSE,
            path.as_bytes(),
            variant.as_bytes(),
            tenant.as_str().as_bytes(),
        ] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.update(&expires_s.to_be_bytes());
        mac
    }
}

impl fmt::Debug for UrlSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UrlSigner")
    }
}

/// Only as [`UrlSigner::sign`] writes it: no sign, no zero in front.
fn seconds(text: &str) -> Option<u64> {
    let value: u64 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

fn create(path: &Path) -> io::Result<()> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret)?;
    path.parent().map_or(Ok(()), durable::private_directory)?;
    // Another process may have been faster: its secret is as good.
    durable::create(path, &secret).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const PATH: &str = "/v1/videos/video_1/content";
    const NOW_S: u64 = 1_900_000_000;

    struct Signed {
        signer: UrlSigner,
        tenant: TenantName,
        expires: String,
        signature: String,
    }

    impl Signed {
        fn new() -> Self {
            let (signer, tenant) = (UrlSigner::new(&[7; 32]), TenantName::default());
            let query = signer.sign(PATH, Some("thumbnail"), &tenant, NOW_S + 60);
            let (expires, signature) = query.split_once('&').unwrap();
            Self {
                signer,
                tenant,
                expires: expires.strip_prefix("expires=").unwrap().into(),
                signature: signature.strip_prefix("signature=").unwrap().into(),
            }
        }

        fn verify(
            &self,
            path: &str,
            variant: Option<&str>,
            now_s: u64,
        ) -> Result<(), SignedUrlError> {
            let Self {
                signer,
                tenant,
                expires,
                signature,
            } = self;
            signer.verify(path, variant, tenant, expires, signature, now_s)
        }
    }

    #[test]
    fn a_signed_address_is_good_until_its_time_is_up() {
        let signed = Signed::new();
        let verify = |now_s| signed.verify(PATH, Some("thumbnail"), now_s);
        assert_eq!(verify(NOW_S), Ok(()));
        assert_eq!(verify(NOW_S + 59), Ok(()));
        assert_eq!(verify(NOW_S + 60), Err(SignedUrlError::Expired));
    }

    #[test]
    fn it_is_good_for_nothing_else() {
        let signed = Signed::new();
        let other_path = signed.verify("/v1/videos/video_2/content", Some("thumbnail"), NOW_S);
        assert_eq!(other_path, Err(SignedUrlError::Wrong));
        let other_variant = signed.verify(PATH, Some("video"), NOW_S);
        assert_eq!(other_variant, Err(SignedUrlError::Wrong));
        assert_eq!(signed.verify(PATH, None, NOW_S), Err(SignedUrlError::Wrong));
        let other_tenant = Signed {
            tenant: "acme".parse().unwrap(),
            ..Signed::new()
        };
        assert_eq!(
            other_tenant.verify(PATH, Some("thumbnail"), NOW_S),
            Err(SignedUrlError::Wrong)
        );
        let later = Signed {
            expires: (NOW_S + 600).to_string(),
            ..Signed::new()
        };
        assert_eq!(
            later.verify(PATH, Some("thumbnail"), NOW_S),
            Err(SignedUrlError::Wrong)
        );
        let other_secret = Signed {
            signer: UrlSigner::new(&[8; 32]),
            ..Signed::new()
        };
        assert_eq!(
            other_secret.verify(PATH, Some("thumbnail"), NOW_S),
            Err(SignedUrlError::Wrong)
        );
    }

    #[test]
    fn every_changed_bit_of_the_signature_is_noticed() {
        let good = hex::decode(Signed::new().signature).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let tampered = Signed {
                signature: hex::encode(bytes),
                ..Signed::new()
            };
            assert_eq!(
                tampered.verify(PATH, Some("thumbnail"), NOW_S),
                Err(SignedUrlError::Wrong),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn a_query_of_another_form_is_malformed_or_wrong_but_never_good() {
        for expires in ["", "-1", "+1900000060", "01900000060", "soon"] {
            let signed = Signed {
                expires: expires.into(),
                ..Signed::new()
            };
            assert_eq!(
                signed.verify(PATH, Some("thumbnail"), NOW_S),
                Err(SignedUrlError::Malformed)
            );
        }
        for (signature, error) in [
            ("", SignedUrlError::Wrong),
            ("zz", SignedUrlError::Malformed),
            ("abc", SignedUrlError::Malformed),
            (&Signed::new().signature[2..], SignedUrlError::Wrong),
        ] {
            let signed = Signed {
                signature: signature.into(),
                ..Signed::new()
            };
            assert_eq!(
                signed.verify(PATH, Some("thumbnail"), NOW_S),
                Err(error),
                "{signature}"
            );
        }
    }

    #[test]
    fn the_signature_is_plain_hmac_sha256() {
        let mut message = Vec::new();
        for part in [PURPOSE, b"/a", b"", b"default"] {
            message.extend((part.len() as u64).to_be_bytes());
            message.extend(part);
        }
        message.extend(1u64.to_be_bytes());
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&[7; 32]).unwrap();
        mac.update(&message);
        let expected = hex::encode(mac.finalize().into_bytes());
        let signed = UrlSigner::new(&[7; 32]).sign("/a", None, &TenantName::default(), 1);
        assert_eq!(signed, format!("expires=1&signature={expected}"));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let (signer, tenant) = (UrlSigner::new(&[7; 32]), TenantName::default());
        assert_ne!(
            signer.sign("/a", Some("bc"), &tenant, 1),
            signer.sign("/ab", Some("c"), &tenant, 1)
        );
    }

    #[test]
    fn the_secret_is_made_once_and_kept_private() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        let tenant = TenantName::default();
        let signers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| UrlSigner::open(&data_dir).unwrap()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let first = signers[0].sign("/a", None, &tenant, 1);
        assert!(
            signers
                .iter()
                .all(|signer| signer.sign("/a", None, &tenant, 1) == first)
        );
        let path = data_dir.join(SIGNING_SECRET_FILE_NAME);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let left: Vec<_> = fs::read_dir(&data_dir).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_secret_that_is_too_short_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(SIGNING_SECRET_FILE_NAME), "short").unwrap();
        let error = UrlSigner::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("5 bytes instead of 32"), "{error}");
    }
}

//! Amazon S3 and what speaks its protocol.

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};

use super::{CacheSetupError, connection::Connector, required, retries};
use crate::config::Secret;

const DEFAULT_REGION: &str = "us-east-1";
const AMAZON: &str = "s3.amazonaws.com";

/// `[runners.cache.s3]`.
#[derive(Debug, Clone, Default)]
pub struct S3Settings {
    /// `host[:port]`; empty for Amazon.
    pub server_address: String,
    /// Without them, or with [`S3Settings::uses_iam`], the credentials are those of this machine: variables, web identity, container, or
    /// instance.
    pub access_key: Secret,
    pub secret_key: Secret,
    pub session_token: Secret,
    /// `iam`, whatever keys there are.
    pub uses_iam: bool,
    pub bucket: String,
    pub region: String,
    /// HTTP without TLS.
    pub is_insecure: bool,
    pub encryption: Option<Encryption>,
    pub encryption_key_id: String,
    pub dual_stack: bool,
    /// `None`: the bucket is part of the host name at Amazon, of the path elsewhere.
    pub path_style: Option<bool>,
    pub accelerate: bool,
}

/// How the server encrypts what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    S3,
    Kms,
    DsseKms,
}

impl Encryption {
    /// Reads the word of config.toml; `None` for another one.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "S3" => Some(Self::S3),
            "KMS" => Some(Self::Kms),
            "DSSE-KMS" => Some(Self::DsseKms),
            _ => None,
        }
    }

    /// Returns the value of the header `x-amz-server-side-encryption`.
    fn header(self) -> &'static str {
        match self {
            Self::S3 => "AES256",
            Self::Kms => "aws:kms",
            Self::DsseKms => "aws:kms:dsse",
        }
    }
}

impl S3Settings {
    pub(super) fn open(&self) -> Result<AmazonS3, CacheSetupError> {
        let bucket = required("BucketName", &self.bucket)?;
        let has_keys = !self.access_key.is_empty() && !self.secret_key.is_empty();
        // As with GitLab Runner, an address that is missing means Amazon with this machine's credentials, unless there are keys.
        let builder = match has_keys && !self.uses_iam {
            true => AmazonS3Builder::new().with_access_key_id(self.access_key.expose()).with_secret_access_key(self.secret_key.expose()),
            // What AWS tools find in the environment is part of what `iam` means.
            false => AmazonS3Builder::from_env(),
        };
        let builder = match self.session_token.is_empty() || self.uses_iam {
            true => builder,
            false => builder.with_token(self.session_token.expose()),
        };
        let (endpoint, is_virtual) = self.endpoint();
        let builder = builder
            .with_bucket_name(bucket)
            .with_region(self.region())
            .with_endpoint(endpoint)
            .with_virtual_hosted_style_request(is_virtual)
            .with_allow_http(true)
            .with_http_connector(Connector)
            .with_retry(retries());
        Ok(self.encrypt(builder)?.build()?)
    }

    fn encrypt(&self, builder: AmazonS3Builder) -> object_store::Result<AmazonS3Builder> {
        let Some(encryption) = self.encryption else { return Ok(builder) };
        let key = |name: &str| name.parse::<AmazonS3ConfigKey>();
        let builder = builder.with_config(key("aws_server_side_encryption")?, encryption.header());
        match self.encryption_key_id.is_empty() || encryption == Encryption::S3 {
            true => Ok(builder),
            false => Ok(builder.with_config(key("aws_sse_kms_key_id")?, &self.encryption_key_id)),
        }
    }

    fn region(&self) -> &str {
        if self.region.is_empty() { DEFAULT_REGION } else { &self.region }
    }

    /// Returns where to send requests, and whether the bucket is part of the host name.
    fn endpoint(&self) -> (String, bool) {
        let scheme = if self.is_insecure { "http" } else { "https" };
        let address = self.server_address.trim_end_matches('/');
        let (bucket, region) = (&self.bucket, self.region());
        let stack = if self.dual_stack { ".dualstack" } else { "" };
        if address.is_empty() || address == AMAZON {
            let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            return match (self.accelerate, self.path_style) {
                (true, _) => (format!("{scheme}://{bucket}.s3-accelerate{stack}.amazonaws.com"), true),
                (false, Some(true)) => (format!("{scheme}://s3{stack}.{region}.{domain}"), false),
                (false, _) => (format!("{scheme}://{bucket}.s3{stack}.{region}.{domain}"), true),
            };
        }
        let is_amazon = address.ends_with(".amazonaws.com") || address.ends_with(".amazonaws.com.cn");
        match self.path_style.unwrap_or(!is_amazon) {
            true => (format!("{scheme}://{address}"), false),
            false => (format!("{scheme}://{bucket}.{address}"), true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let settings = |change: fn(&mut S3Settings)| {
            let mut settings = S3Settings { bucket: "b".to_owned(), dual_stack: true, ..S3Settings::default() };
            change(&mut settings);
            settings.endpoint()
        };
        for (change, expected) in [
            ((|_| {}) as fn(&mut S3Settings), ("https://b.s3.dualstack.us-east-1.amazonaws.com", true)),
            (|s| s.path_style = Some(true), ("https://s3.dualstack.us-east-1.amazonaws.com", false)),
            (|s| s.accelerate = true, ("https://b.s3-accelerate.dualstack.amazonaws.com", true)),
            (|s| s.server_address = AMAZON.to_owned(), ("https://b.s3.dualstack.us-east-1.amazonaws.com", true)),
            (|s| (s.region, s.dual_stack) = ("cn-north-1".to_owned(), false), ("https://b.s3.cn-north-1.amazonaws.com.cn", true)),
            (|s| s.server_address = "s3.eu-west-1.amazonaws.com".to_owned(), ("https://b.s3.eu-west-1.amazonaws.com", true)),
            (|s| (s.server_address, s.is_insecure) = ("minio:9000".to_owned(), true), ("http://minio:9000", false)),
            (|s| (s.server_address, s.path_style) = ("minio".to_owned(), Some(false)), ("https://b.minio", true)),
        ] {
            assert_eq!(settings(change), (expected.0.to_owned(), expected.1));
        }
    }
}

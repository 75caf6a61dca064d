//! `[runners.cache]`: where archives of `cache:` go. These keys are in CamelCase.

use super::key::{Table, boolean, integer, table, text};

const NO_ROLE: &str = "roles limit what a job can do with the credentials that it is given; here it is given none";

/// `[runners.cache]`.
pub(super) static CACHE: Table = Table::with_flags(
    "cache-",
    "CACHE_",
    &[
        text("Type").flag().long("type"),
        text("Path").flag().long("path"),
        boolean("Shared").flag().long("shared"),
        integer("MaxUploadedArchiveSize")
            .written()
            .flag()
            .long("max_uploaded_archive_size")
            .variable("CACHE_MAXIMUM_UPLOADED_ARCHIVE_SIZE"),
        // Until GitLab Runner 12 the keys of S3 stood here.,
        text("ServerAddress").outdated(),
        text("AccessKey").outdated(),
        text("SecretKey").outdated(),
        text("BucketName").outdated(),
        text("BucketLocation").outdated(),
        boolean("Insecure").outdated(),
        table("s3", &S3),
        table("gcs", &GCS),
        table("azure", &AZURE),
    ],
);

/// `[runners.cache.s3]`.
pub(super) static S3: Table = Table::with_flags(
    "cache-s3-",
    "CACHE_S3_",
    &[
        text("ServerAddress").flag().long("server-address").variable("CACHE_S3_SERVER_ADDRESS"),
        text("AccessKey").flag().long("access-key").variable("CACHE_S3_ACCESS_KEY"),
        text("SecretKey").flag().long("secret-key").variable("CACHE_S3_SECRET_KEY"),
        text("SessionToken").flag().long("session-token").variable("CACHE_S3_SESSION_TOKEN"),
        text("BucketName").flag().long("bucket-name").variable("CACHE_S3_BUCKET_NAME"),
        text("BucketLocation").flag().long("bucket-location").variable("CACHE_S3_BUCKET_LOCATION"),
        boolean("Insecure").flag().long("insecure"),
        text("AuthenticationType").flag().long("authentication_type").variable("CACHE_S3_AUTHENTICATION_TYPE"),
        text("ServerSideEncryption").flag().long("server-side-encryption").variable("CACHE_S3_SERVER_SIDE_ENCRYPTION"),
        text("ServerSideEncryptionKeyID").flag().long("server-side-encryption-key-id").variable("CACHE_S3_SERVER_SIDE_ENCRYPTION_KEY_ID"),
        boolean("DualStack").optional().flag().long("dual-stack").variable("CACHE_S3_DUAL_STACK"),
        boolean("PathStyle").optional().flag().long("path-style").variable("CACHE_S3_PATH_STYLE"),
        boolean("Accelerate").flag().long("accelerate"),
        text("RoleARN").flag().long("role-arn").variable("CACHE_S3_ROLE_ARN").ignored(NO_ROLE),
        text("UploadRoleARN").flag().long("upload-role-arn").variable("CACHE_S3_UPLOAD_ROLE_ARN").ignored(NO_ROLE),
        integer("AssumeRoleMaxConcurrency")
            .written()
            .flag()
            .long("assume-role-max-concurrency")
            .variable("CACHE_S3_ASSUME_ROLE_MAX_CONCURRENCY")
            .ignored(NO_ROLE),
        boolean("DisableAssumeRoleCredentialsCaching")
            .flag()
            .long("disable-assume-role-credentials-caching")
            .variable("CACHE_S3_DISABLE_ASSUME_ROLE_CREDENTIALS_CACHING")
            .ignored(NO_ROLE),
    ],
);

/// `[runners.cache.gcs]`.
pub(super) static GCS: Table = Table::with_flags(
    "cache-gcs-",
    "CACHE_GCS_",
    &[
        text("AccessID").flag().long("access-id").variable("CACHE_GCS_ACCESS_ID"),
        text("PrivateKey").flag().long("private-key").variable("CACHE_GCS_PRIVATE_KEY"),
        text("CredentialsFile").flag().long("credentials-file").variable("GOOGLE_APPLICATION_CREDENTIALS"),
        text("BucketName").flag().long("bucket-name").variable("CACHE_GCS_BUCKET_NAME"),
        text("UniverseDomain").flag().long("universe-domain").variable("CACHE_GCS_UNIVERSE_DOMAIN"),
    ],
);

/// `[runners.cache.azure]`.
pub(super) static AZURE: Table = Table::with_flags(
    "cache-azure-",
    "CACHE_AZURE_",
    &[
        text("AccountName").flag().long("account-name").variable("CACHE_AZURE_ACCOUNT_NAME"),
        text("AccountKey").flag().long("account-key").variable("CACHE_AZURE_ACCOUNT_KEY"),
        text("ContainerName").flag().long("container-name").variable("CACHE_AZURE_CONTAINER_NAME"),
        text("StorageDomain").flag().long("storage-domain").variable("CACHE_AZURE_STORAGE_DOMAIN"),
    ],
);

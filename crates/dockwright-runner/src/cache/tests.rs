use super::*;

fn name(settings: CacheSettings, key: &str) -> String {
    let s3 = S3Settings { bucket: "b".to_owned(), server_address: "localhost".to_owned(), ..S3Settings::default() };
    let cache = RemoteCache::new(CacheSettings { location: CacheLocation::S3(s3), ..settings }).expect("the settings are complete");
    cache.name("abc", 7, key).path.to_string()
}

#[test]
fn names_are_those_of_gitlab_runner() {
    assert_eq!(name(CacheSettings::default(), "k-protected"), "runner/abc/project/7/k-protected");
    assert_eq!(name(CacheSettings::default(), "a#1~{b} %"), "runner/abc/project/7/a#1~{b} %");
    assert_eq!(name(CacheSettings::default(), "tab\t"), "runner/abc/project/7/tab%09");
    let shared = CacheSettings { is_shared: true, path: "a/b/".to_owned(), ..CacheSettings::default() };
    assert_eq!(name(shared, "job/main"), "a/b/project/7/job/main");
}

#[test]
fn what_is_missing_is_named_and_secrets_do_not_print() {
    let gcs = GcsSettings { bucket: "b".to_owned(), access_id: "a@b".to_owned(), ..GcsSettings::default() };
    let settings = CacheSettings { location: CacheLocation::Gcs(gcs), ..CacheSettings::default() };
    assert_eq!(RemoteCache::new(settings).expect_err("a key is needed").to_string(), "`PrivateKey` is missing");
    let s3 = S3Settings { bucket: "b".to_owned(), secret_key: "rosebud".into(), access_key: "tulip".into(), ..S3Settings::default() };
    let settings = CacheSettings { location: CacheLocation::S3(s3), ..CacheSettings::default() };
    let printed = format!("{:?}", RemoteCache::new(settings).expect("the settings are complete"));
    assert!(!printed.contains("rosebud") && !printed.contains("tulip"), "{printed}");
}

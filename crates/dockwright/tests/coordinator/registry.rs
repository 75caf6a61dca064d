//! `coordinator serve --registry`: what the token of a job opens, and for how long.

use base64::Engine as _;
use serde_json::Value;

use crate::world::{World, call, request};

#[test]
fn a_job_may_push_to_its_project_while_it_runs() {
    let world = World::with_arguments("job: {script: 'true'}\n", &["--registry", "127.0.0.1:0"]);
    // Its path begins with that of the job's project.
    world.add_project("group/app/part", "main", "job: {script: 'true'}\n");
    world.create_pipeline();
    let runner = world.json("POST", "/user/runners", "{}");
    let (status, body) = call(&world.address, "POST", "/jobs/request", "", &format!(r#"{{"token":{}}}"#, runner["token"]));
    assert_eq!(status, 201);
    let job: Value = serde_json::from_slice(&body).expect("a payload");
    let variable = |key: &str| -> String {
        let found = job["variables"].as_array().and_then(|list| list.iter().find(|variable| variable["key"] == key));
        found.and_then(|variable| variable["value"].as_str()).unwrap_or_else(|| panic!("{key} is missing: {job}")).to_owned()
    };
    let registry = variable("CI_REGISTRY");
    assert_eq!(variable("CI_REGISTRY_IMAGE"), format!("{registry}/group/app"));
    assert_eq!((&job["credentials"][0]["url"], &job["credentials"][0]["type"]), (&registry.as_str().into(), &"registry".into()));
    let login = format!("{}:{}", variable("CI_REGISTRY_USER"), variable("CI_REGISTRY_PASSWORD"));
    let login = format!("Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(login));
    let status = |method: &str, target: &str, headers: &str| request(&registry, method, target, headers, "").0;
    let scope = "/jwt/auth?service=container_registry&scope=repository:group/app:pull,push";
    assert_eq!(status("GET", scope, &login), 200);
    assert_eq!(status("GET", scope, ""), 403);
    for (repository, expected) in [("group/app", 202), ("group/app/image", 202), ("group/application", 403), ("group/app/part", 403)] {
        assert_eq!(status("POST", &format!("/v2/{repository}/blobs/uploads/"), &login), expected, "{repository}");
    }
    let end = format!(r#"{{"token":{},"state":"success"}}"#, job["token"]);
    assert_eq!(call(&world.address, "PUT", &format!("/jobs/{}", job["id"]), "", &end).0, 200);
    assert_eq!(status("GET", scope, &login), 401);
    assert_eq!(status("POST", "/v2/group/app/blobs/uploads/", &login), 401);
}

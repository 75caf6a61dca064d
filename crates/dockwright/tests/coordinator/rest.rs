//! What programs ask GitLab's REST API for.

use crate::world::World;

const CONFIG: &str = "
make: {script: ['echo making', 'mkdir -p out', 'echo product > out/file'], artifacts: {paths: [out]}}
check: {script: 'echo checked'}
";

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_and_filtered() {
    let world = World::new("job: {script: 'true'}\n");
    let pipelines: Vec<u64> = (0..3).map(|_| world.create_pipeline()).collect();
    world.json("POST", &format!("/projects/1/pipelines/{}/cancel", pipelines[1]), "");
    let ids = |query: &str| -> Vec<u64> {
        let list = world.json("GET", &format!("/projects/1/pipelines?{query}"), "");
        list.as_array().expect("a list").iter().filter_map(|pipeline| pipeline["id"].as_u64()).collect()
    };
    assert_eq!(ids("sort=asc"), pipelines);
    assert_eq!(ids("per_page=2&page=2"), pipelines[..1]);
    assert_eq!(ids("scope=finished"), pipelines[1..2]);
    assert_eq!(ids("status=pending&ref=main&source=api"), [pipelines[2], pipelines[0]]);
    assert_eq!(ids("ref=other"), [0; 0]);
    assert_eq!(world.call("GET", "/projects/1/pipelines?scope=odd", "").0, 400);
    let head = world.head("/projects/1/pipelines?per_page=2&ref=main");
    for line in ["x-total: 3", "x-total-pages: 2", "x-page: 1", "x-next-page: 2", "x-prev-page: "] {
        assert!(head.lines().any(|header| header.trim_end() == line.trim_end()), "{line} is missing: {head}");
    }
    assert!(head.contains(&format!("<http://{}/api/v4/projects/1/pipelines?ref=main&page=2&per_page=2>; rel=\"next\"", world.address)));
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_are_found_by_path_and_by_ref_until_they_are_erased() {
    let world = World::new(CONFIG);
    let pipeline = world.create_pipeline();
    let runner = world.runner("", 1).await;
    world.until_pipeline(pipeline, "success").await;
    runner.end().await;
    for path in ["/projects/1/jobs/1/artifacts/out/file", "/projects/1/jobs/artifacts/main/raw/out/file?job=make"] {
        assert_eq!(world.call("GET", path, ""), (200, b"product\n".to_vec()), "{path}");
    }
    let (status, archive) = world.call("GET", "/projects/1/jobs/artifacts/main/download?job=make", "");
    assert_eq!((status, &archive[..2]), (200, b"PK".as_slice()));
    for path in ["1/artifacts/out/none", "2/artifacts/out/file", "artifacts/main/raw/out/file?job=none", "artifacts/none/download?job=make"]
    {
        assert_eq!(world.call("GET", &format!("/projects/1/jobs/{path}"), "").0, 404, "{path}");
    }
    assert_eq!(world.call("POST", "/projects/1/jobs/1/artifacts/keep", "").0, 200);
    assert_eq!(world.call("POST", "/projects/1/jobs/1/erase", "").0, 201);
    assert_eq!(world.call("GET", "/projects/1/jobs/1/artifacts", "").0, 404);
    assert_eq!(world.trace(1), "");
    assert_eq!(world.json("GET", "/projects/1/pipelines/latest", "")["id"], pipeline);
}

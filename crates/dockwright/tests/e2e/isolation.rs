//! Jobs at once do what would collide on a shared daemon.

use crate::world::for_each_world;

/// Sixteen jobs start a container of the same name on the same port, list containers, and remove all that they see.
#[test]
fn sixteen_jobs_share_nothing() {
    const JOB: &str = r#"
  script:
    - docker run -d --name db -p 5432:80 busybox httpd -f -p 80 -h /etc
    - test "$(docker ps -q | wc -l)" = 1
    - docker ps --format '{{.Names}} {{.Ports}}' | grep -q '^db .*5432->80/tcp'
    - wget -q -O /dev/null http://docker:5432/passwd
    - docker rm -f $(docker ps -aq)
    - test -z "$(docker ps -aq)"
"#;
    const SHARED: &str = "image: docker:19.03.12\nservices: [\"docker:19.03.12-dind\"]\nbefore_script:\n  - docker pull busybox\n";
    let jobs: Vec<String> = (1..=16).map(|number| format!("job-{number}:{JOB}")).collect();
    let configuration = format!("{SHARED}{}", jobs.concat());
    for_each_world("isolation::sixteen_jobs_share_nothing", |world| {
        let repository = world.repository("sixteen", &[(".gitlab-ci.yml", configuration.as_bytes())]);
        let printed = world.run_green(&repository, &["--jobs", "16"]);
        assert_eq!(printed.matches("Job succeeded").count(), 16, "{printed}");
    });
}

//! Commands that say what a configuration comes to, and why.

use expect_test::expect;

use crate::common::Project;

const RULES: &str = r#"
variables: {TARGET: staging}
deploy:
  script: [make deploy]
  variables: {TOKEN: "for $TARGET"}
  rules:
    - if: $CI_COMMIT_TAG
      variables: {TARGET: production}
    - if: $CI_COMMIT_BRANCH == "main" && $FORCE
      when: manual
merge:
  script: [make check]
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
      changes: ["src/*"]
plain: {script: [make]}
"#;

#[test]
fn why_shows_which_rule_decided() {
    let project = Project::new(RULES);
    expect![[r#"
        deploy is left out
          rules
            .gitlab-ci.yml:7  does not match
              if: $CI_COMMIT_TAG  does not hold
                $CI_COMMIT_TAG is not defined
            .gitlab-ci.yml:9  does not match
              if: $CI_COMMIT_BRANCH == "main" && $FORCE  does not hold
                $CI_COMMIT_BRANCH is "main"
                $FORCE is not defined
            no rule matches
    "#]]
    .assert_eq(&project.output(&["why", "deploy"]).ended_with(0).stdout);
    let tag = project.output(&["why", "deploy", "--tag", "v1"]).ended_with(0).stdout;
    assert!(tag.starts_with("deploy is part of the pipeline, with `when: on_success`"), "{tag}");
    let json = project.output(&["why", "deploy", "--variable", "FORCE=1", "--json"]).ended_with(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("a JSON document");
    assert_eq!((&json[0]["when"], &json[0]["rules"][1]["line"]), (&"manual".into(), &9.into()), "{json:#}");
    let unknown = project.output(&["why", "deplyo"]).ended_with(2).stderr;
    assert!(unknown.contains("did you mean `deploy`?"), "{unknown}");
}

#[test]
fn a_merge_request_sees_what_its_branch_changed() {
    let project = Project::new(RULES);
    project.git(&["checkout", "-q", "-b", "topic"]);
    std::fs::create_dir(project.repository().join("src")).expect("directory");
    project.write("src/main.rs", "fn main() {}");
    let printed = project.output(&["list", "--target-branch", "main"]).ended_with(0);
    assert!(printed.stdout.contains("merge") && !printed.stdout.contains("plain"), "{}", printed.stdout);
    let variables = project.output(&["variables", "merge", "--event", "merge_request_event", "--target-branch", "main"]).ended_with(0);
    for line in ["CI_MERGE_REQUEST_TARGET_BRANCH_NAME  predefined  main", "CI_PIPELINE_SOURCE  ", "merge_request_event"] {
        let squeezed: Vec<String> = variables.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join("  ")).collect();
        assert!(squeezed.iter().any(|known| known.contains(line.trim_end())), "{line} is missing in\n{}", variables.stdout);
    }
    assert!(!variables.stdout.contains("CI_COMMIT_BRANCH "), "{}", variables.stdout);
    let printed = project.output(&["list", "--target-branch", "mian"]).ended_with(3);
    assert!(printed.stderr.contains("`mian` is no branch"), "{}", printed.stderr);
}

#[test]
fn variables_say_where_they_come_from() {
    let project = Project::new(RULES);
    let printed = project.output(&["variables", "deploy", "--tag", "v1", "--variable", "EXTRA=x", "--json"]).ended_with(0).stdout;
    let lines: Vec<serde_json::Value> = serde_json::from_str(&printed).expect("a JSON document");
    let find = |key: &str| {
        let line = lines.iter().find(|line| line["key"] == key).unwrap_or_else(|| panic!("{key} is missing in {printed}"));
        format!("{} from {}", line["value"].as_str().unwrap_or_default(), line["origin"].as_str().unwrap_or_default())
    };
    assert_eq!(find("TARGET"), "production from rules");
    assert_eq!(find("TOKEN"), "for production from job");
    assert_eq!(find("EXTRA"), "x from given");
    assert_eq!(find("CI_COMMIT_TAG"), "v1 from predefined");
    let refused = project.output(&["variables", "deploy"]).ended_with(2).stderr;
    assert!(refused.contains("its rules leave it out"), "{refused}");
}

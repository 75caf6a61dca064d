//! Settings files, completion, help, version, doctor.

use std::fs;

use crate::common::{Printed, Project};

#[test]
fn the_settings_file_is_read() {
    let project = Project::new("show:\n  script: [echo \"V is $V\"]\n");
    let file = project.path("settings.toml");
    fs::write(&file, "[run]\nvariables = { V = 'from the file' }\n").expect("file");
    let printed = project.output(&["run", "--config", file.to_str().expect("path")]).ended_with(0);
    assert!(printed.stdout.contains("V is from the file"), "{}", printed.stdout);
}

#[test]
fn a_wrong_settings_file_is_shown_with_its_place() {
    let project = Project::new("job:\n  script: ['true']\n");
    let file = project.path("settings.toml");
    fs::write(&file, "[run]\njbos = 3\n").expect("file");
    let printed = project.output(&["run", "--config", file.to_str().expect("path")]).ended_with(3);
    assert!(printed.stderr.contains("jbos") && printed.stderr.contains("line 2"), "{}", printed.stderr);
}

#[test]
fn a_settings_file_that_was_named_must_exist() {
    let printed = Project::without_commit().output(&["version", "--config", "/no/such/file"]).ended_with(3);
    assert!(printed.stderr.contains("/no/such/file"), "{}", printed.stderr);
}

#[test]
fn without_a_home_there_is_a_remedy() {
    let project = Project::without_commit();
    let mut command = project.dockwright(&["version"]);
    command.env_remove("HOME").env_remove("DOCKWRIGHT_HOME");
    let printed = Printed::of(command.output().expect("dockwright runs"));
    if !rustix::process::geteuid().is_root() {
        let printed = printed.ended_with(2);
        assert!(printed.stderr.contains("DOCKWRIGHT_HOME"), "{}", printed.stderr);
    }
}

#[test]
fn help_names_the_exit_codes_and_completion_the_commands() {
    let project = Project::without_commit();
    assert!(project.output(&["--help"]).ended_with(0).stdout.contains("Exit codes:"));
    let script = project.output(&["completion", "bash"]).ended_with(0).stdout;
    assert!(script.contains("doctor") && script.contains("--docker-host"), "{script}");
}

#[test]
fn doctor_reports_in_json_as_it_does_in_words() {
    let project = Project::without_commit();
    let printed = project.output(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&printed.stdout).expect("JSON");
    let problems = report["findings"].as_array().expect("findings").iter().filter(|finding| finding["status"] == "problem");
    for problem in problems.clone() {
        assert!(problem["remedy"].is_string(), "{problem} has no remedy");
    }
    let healthy = problems.count() == 0;
    assert_eq!((report["healthy"].as_bool(), printed.code), (Some(healthy), Some(i32::from(!healthy))));
    assert_eq!(project.output(&["doctor"]).code, printed.code);
}

#[test]
fn doctor_starts_a_container() {
    dockwright_testing::requires!(UserNamespace, Root);
    let printed = Project::without_commit().output(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&printed.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("findings");
    let container = findings.iter().find(|finding| finding["check"] == "container").expect("the trial");
    assert_eq!(container["status"], "good", "{container}");
}

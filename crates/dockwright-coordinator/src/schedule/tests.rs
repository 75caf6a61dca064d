use std::fmt::Write as _;

use dockwright_pipeline::{PipelineContext, evaluate, has_errors, parse};
use expect_test::{Expect, expect};
use indexmap::IndexMap;
use proptest::prelude::*;

use super::*;

fn pipeline(text: &str) -> Pipeline {
    let files = IndexMap::from([(".gitlab-ci.yml".to_owned(), text.to_owned())]);
    let context = PipelineContext::default();
    let parsed = parse(".gitlab-ci.yml", &files, &context);
    assert!(!has_errors(&parsed.problems), "{:?}", parsed.problems);
    evaluate(&parsed.config, &context).0
}

/// Runs a pipeline, one round at a time: all pending jobs start, then they end as their script says (`exit N`, `cancel` or success).
#[track_caller]
fn check(text: &str, expected: Expect) {
    let pipeline = pipeline(text);
    let name = |job: JobIndex| pipeline.jobs[job].name.as_str();
    let mut state = State::new(Plan::new(&pipeline));
    let mut output = String::new();
    let mut events = vec![Event::Begin];
    while !events.is_empty() {
        let mut queue = Vec::new();
        let mut due = Vec::new();
        for event in events.drain(..) {
            let (following, commands) = next(&state, event);
            state = following;
            for command in commands {
                let line = match &command {
                    Command::Enqueue(job) => {
                        queue.push(*job);
                        format!("enqueue {}", name(*job))
                    }
                    Command::Close { job, status, is_allowed_to_fail } => {
                        format!("{} {}{}", status.as_str(), name(*job), if *is_allowed_to_fail { " (allowed)" } else { "" })
                    }
                    Command::Retry(job) => format!("retry {}", name(*job)),
                    Command::Reopen(job) => format!("reopen {}", name(*job)),
                    Command::Hold(job) => format!("hold {}", name(*job)),
                    Command::Delay(job) => {
                        due.push(*job);
                        format!("delay {}", name(*job))
                    }
                    Command::Queue(job) => format!("queue {}", name(*job)),
                    Command::Stop(job) => format!("stop {}", name(*job)),
                    Command::Finish(status) => format!("finish {}", status.as_str()),
                };
                writeln!(output, "{line}").expect("writing to a string");
            }
        }
        events.extend(due.iter().map(|job| Event::Due(*job)));
        events.extend(queue.iter().map(|job| Event::Started(*job)));
        events.extend(queue.iter().map(|job| ended(*job, &pipeline.jobs[*job].script[0])));
    }
    expected.assert_eq(&output);
}

fn ended(job: JobIndex, script: &str) -> Event {
    match script.strip_prefix("exit ").map(|code| code.parse().expect("a number")) {
        Some(code) => Event::Ended(job, Outcome::Failed { reason: FailureReason::ScriptFailure, exit_code: Some(code) }),
        None if script == "cancel" => Event::Cancel,
        None => Event::Ended(job, Outcome::Success),
    }
}

/// Applies events and returns what is to be done about each.
fn told(state: &mut State, events: impl IntoIterator<Item = Event>) -> Vec<Command> {
    let step = |event| {
        let (following, commands) = next(state, event);
        *state = following;
        commands
    };
    events.into_iter().flat_map(step).collect()
}

fn failed(job: JobIndex) -> Event {
    Event::Ended(job, Outcome::Failed { reason: FailureReason::ScriptFailure, exit_code: Some(1) })
}

#[test]
fn a_retried_job_gives_those_after_it_another_chance() {
    let plan =
        Plan::new(&pipeline("a: {stage: build, script: x}\nb: {stage: test, script: x}\nc: {stage: deploy, script: x, needs: [b]}\n"));
    let mut state = State::new(plan);
    told(&mut state, [Event::Begin, Event::Started(0), failed(0)]);
    assert_eq!(state.status(1), JobStatus::Skipped);
    let commands = told(&mut state, [Event::Retry(0)]);
    assert_eq!(commands, [Command::Retry(0), Command::Enqueue(0), Command::Reopen(1), Command::Reopen(2)]);
    let commands = told(&mut state, [Event::Started(0), Event::Ended(0, Outcome::Success)]);
    assert_eq!(commands.last(), Some(&Command::Enqueue(1)));
    // What has not ended is not retried.
    assert_eq!(told(&mut state, [Event::Retry(1)]), []);
}

#[test]
fn one_job_is_stopped_and_another_is_played() {
    let plan = Plan::new(&pipeline("a: {script: x}\nb: {script: x, when: manual}\n"));
    let mut state = State::new(plan);
    told(&mut state, [Event::Begin, Event::Started(0)]);
    assert_eq!(told(&mut state, [Event::CancelJob(0), Event::CancelJob(0)]), [Command::Stop(0)]);
    assert_eq!(told(&mut state, [Event::Play(1), Event::Play(1)]), [Command::Enqueue(1)]);
    let ends = told(&mut state, [Event::Started(1), failed(0), Event::Ended(1, Outcome::Success)]);
    assert_eq!(ends.last(), Some(&Command::Finish(PipelineStatus::Canceled)));
}

#[test]
fn a_job_comes_back_from_a_runner_and_a_state_from_its_rows() {
    let plan = Plan::new(&pipeline("a: {stage: build, script: x}\nb: {stage: test, script: x}\n"));
    let mut state = State::new(plan.clone());
    told(&mut state, [Event::Begin, Event::Started(0)]);
    assert_eq!(told(&mut state, [Event::Returned(0)]), [Command::Enqueue(0)]);
    told(&mut state, [Event::Started(0)]);
    let rows = (0..2).map(|job| RestoredJob { status: state.status(job), is_allowed_to_fail: false, tries: 1, is_canceling: false });
    let mut restored = State::restored(plan, rows.collect());
    let end = Event::Ended(0, Outcome::Success);
    assert_eq!(told(&mut restored, [end.clone()]), told(&mut state, [end]));
}

#[test]
fn stages_wait_for_each_other_and_needs_do_not() {
    check(
        r"
a: {stage: build, script: x}
b: {stage: build, script: x}
c: {stage: test, script: x}
d: {stage: test, script: x, needs: [a]}
e: {stage: deploy, script: x, needs: []}
",
        expect![[r#"
            enqueue a
            enqueue b
            enqueue e
            success a
            enqueue d
            success b
            enqueue c
            success e
            success d
            success c
            finish success
        "#]],
    );
}

#[test]
fn a_failure_skips_what_follows_but_not_clean_up() {
    check(
        r"
a: {stage: build, script: exit 1}
b: {stage: test, script: x}
c: {stage: test, script: x, when: on_failure}
d: {stage: test, script: x, when: always}
e: {stage: test, script: x, needs: [a]}
f: {stage: deploy, script: x, needs: [c]}
g: {stage: deploy, script: x, needs: [b]}
",
        expect![[r#"
            enqueue a
            failed a
            skipped b
            enqueue c
            enqueue d
            skipped e
            skipped g
            success c
            enqueue f
            success d
            success f
            finish failed
        "#]],
    );
}

#[test]
fn allowed_failures_do_not_count() {
    check(
        r"
a: {stage: build, script: exit 3, allow_failure: {exit_codes: 3}}
b: {stage: test, script: x}
c: {stage: test, script: x, when: on_failure}
d: {stage: deploy, script: exit 4, allow_failure: {exit_codes: 3}}
",
        expect![[r#"
            enqueue a
            failed a (allowed)
            enqueue b
            skipped c
            success b
            enqueue d
            failed d
            finish failed
        "#]],
    );
}

#[test]
fn manual_jobs_hold_only_what_waits_for_them() {
    check(
        r"
optional: {stage: build, script: x, when: manual}
after: {stage: test, script: x}
needing: {stage: test, script: x, needs: [optional]}
",
        expect![[r#"
            hold optional
            enqueue after
            skipped needing
            success after
            finish success
        "#]],
    );
    check(
        r"
blocking: {stage: build, script: x, when: manual, allow_failure: false}
after: {stage: test, script: x}
",
        expect![[r#"
            hold blocking
            finish manual
        "#]],
    );
}

#[test]
fn delayed_jobs_wait_for_their_time() {
    check(
        r"
a: {stage: build, script: x, when: delayed, start_in: 1 hour}
b: {stage: test, script: x}
",
        expect![[r#"
            delay a
            enqueue a
            success a
            enqueue b
            success b
            finish success
        "#]],
    );
}

#[test]
fn one_job_of_a_resource_group_runs_at_a_time() {
    check(
        r"
a: {script: x, resource_group: production}
b: {script: x, resource_group: production}
c: {script: x, resource_group: staging}
d: {script: exit 1, resource_group: production, retry: 1}
e: {script: x, resource_group: production}
",
        expect![[r#"
            enqueue a
            queue b
            enqueue c
            queue d
            queue e
            success a
            enqueue b
            success c
            success b
            enqueue d
            retry d
            enqueue d
            failed d
            enqueue e
            success e
            finish failed
        "#]],
    );
}

#[test]
fn retries_end() {
    check(
        "a: {script: exit 1, retry: 2}\n",
        expect![[r#"
        enqueue a
        retry a
        enqueue a
        retry a
        enqueue a
        failed a
        finish failed
    "#]],
    );
    check(
        "a: {script: exit 1, retry: {max: 2, when: runner_system_failure}}\n",
        expect![[r#"
        enqueue a
        failed a
        finish failed
    "#]],
    );
    check(
        "a: {script: exit 7, retry: {max: 1, exit_codes: [7]}}\n",
        expect![[r#"
        enqueue a
        retry a
        enqueue a
        failed a
        finish failed
    "#]],
    );
}

#[test]
fn one_failure_can_cancel_the_rest() {
    check(
        r"
workflow: {auto_cancel: {on_job_failure: all}}
a: {stage: build, script: exit 1}
b: {stage: build, script: x}
c: {stage: test, script: x, when: always}
",
        expect![[r#"
            enqueue a
            enqueue b
            failed a
            stop b
            canceled c
            canceled b
            finish failed
        "#]],
    );
}

fn arbitrary_plan() -> impl Strategy<Value = Plan> {
    let when = prop_oneof![Just(When::OnSuccess), Just(When::OnFailure), Just(When::Always), Just(When::Manual), Just(When::Delayed)];
    let allow = prop_oneof![Just(AllowFailure::Never), Just(AllowFailure::Always), Just(AllowFailure::ExitCodes(vec![1]))];
    let job = (
        0_usize..4,
        proptest::option::of(proptest::collection::vec(any::<prop::sample::Index>(), 0..4)),
        when,
        allow,
        0_u8..3,
        proptest::option::of(0_usize..2),
    );
    (proptest::collection::vec(job, 1..12), any::<bool>()).prop_map(|(mut jobs, cancel_on_failure)| {
        jobs.sort_by_key(|job| job.0);
        let jobs = jobs.into_iter().enumerate().map(|(index, (stage, needs, when, allow_failure, max, resource))| {
            // Needs go to earlier jobs, so there is no circle.
            let needs = needs.map(|needs| if index == 0 { Vec::new() } else { needs.iter().map(|need| need.index(index)).collect() });
            PlannedJob {
                stage,
                needs,
                when,
                resource,
                allow_failure,
                retry: Retry { max, when: vec!["always".to_owned()], exit_codes: Vec::new() },
            }
        });
        Plan { jobs: jobs.collect(), cancel_on_failure }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever runners report and whenever somebody cancels: the pipeline ends once, every job ends or waits for somebody, and no job
    /// starts before the jobs it needs have ended, or beside another of its resource group. (A need that does not run at all settles the matter at once, in GitLab as here.)
    #[test]
    fn every_pipeline_ends(plan in arbitrary_plan(), choices in proptest::collection::vec((0_u8..8, any::<prop::sample::Index>()), 200)) {
        let mut state = State::new(plan.clone());
        let mut finished = Vec::new();
        let mut step = |state: &mut State, event: Event| -> Result<(), TestCaseError> {
            let (following, commands) = next(state, event);
            *state = following;
            for command in &commands {
                if let Command::Finish(status) = command {
                    finished.push(*status);
                }
                if let Command::Enqueue(job) = command {
                    let needs = || plan.jobs[*job].needs.iter().flatten();
                    let does_not_run = |need: &JobIndex| matches!(state.status(*need), JobStatus::Skipped | JobStatus::Manual);
                    let all_ended = needs().all(|need| state.status(*need).is_completed());
                    prop_assert!(all_ended || needs().any(does_not_run), "{job} was enqueued before its needs ended");
                }
            }
            Ok(())
        };
        step(&mut state, Event::Begin)?;
        for (choice, which) in choices {
            let active: Vec<JobIndex> =
                (0..plan.jobs.len()).filter(|job| matches!(state.status(*job), JobStatus::Pending | JobStatus::Running | JobStatus::Scheduled)).collect();
            if active.is_empty() {
                break;
            }
            let job = active[which.index(active.len())];
            let event = match (choice, state.status(job)) {
                (0, _) => Event::Cancel,
                (_, JobStatus::Pending) => Event::Started(job),
                (_, JobStatus::Scheduled) => Event::Due(job),
                (1..=3, _) => Event::Ended(job, Outcome::Failed { reason: FailureReason::ScriptFailure, exit_code: Some(i32::from(choice)) }),
                _ => Event::Ended(job, Outcome::Success),
            };
            step(&mut state, event)?;
            for resource in 0..2 {
                let holds = |job: &usize| {
                    plan.jobs[*job].resource == Some(resource) && matches!(state.status(*job), JobStatus::Pending | JobStatus::Running)
                };
                prop_assert!((0..plan.jobs.len()).filter(holds).count() <= 1, "two jobs hold resource {}", resource);
            }
        }
        prop_assert_eq!(finished.len(), 1, "the pipeline ends exactly once");
        let is_blocked = finished[0] == PipelineStatus::Manual;
        for job in 0..plan.jobs.len() {
            let status = state.status(job);
            prop_assert!(status.is_completed() || status == JobStatus::Manual || is_blocked, "job {} is left {:?}", job, status);
        }
        prop_assert!(!matches!(finished[0], PipelineStatus::Running | PipelineStatus::Pending), "{:?}", finished[0]);
    }
}

//! Which job runs next: a state machine without time, input or output.
//!
//! ```text
//!             needs or stages done, `when` holds              handed out             reported
//!   Created ───────────────────────────────────────► Pending ───────────► Running ───────────► Success
//!      │  │                                             ▲                    │  │                Failed
//!      │  └──────────► Manual                           └────────────────────┘  │                Canceled
//!      │  │                                             ▲  failed, tries left   │
//!      │  ├──────────► Scheduled ── its time came ──────┤                       │
//!      │  └──────────► WaitingForResource ── its turn ──┘                       │
//!      │ `when` does not hold                                                   │
//!      └──────────► Skipped          whatever does not run ── cancel ──► Canceled
//! ```
//!
//! A job of a resource group holds the group from being pending to its end; others of the group wait, and the first of them is next.
//!
//! A job in needs mode looks at the jobs it needs, any other at all jobs of earlier stages. Their states are folded into one by GitLab's
//! rules ([`composite`]), which `when` is then compared with.

use std::sync::Arc;

use dockwright_job::FailureReason;
use dockwright_pipeline::{AllowFailure, Pipeline, Retry, When};

use crate::event::{JobStatus, PipelineStatus};

/// Number of a job in the plan. A retry keeps it.
pub(crate) type JobIndex = usize;

/// What the scheduler knows of the jobs; it does not change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    pub(crate) jobs: Vec<PlannedJob>,
    /// A failure cancels everything else.
    pub(crate) cancel_on_failure: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct PlannedJob {
    pub(crate) stage: usize,
    /// Absent: all jobs of earlier stages.
    pub(crate) needs: Option<Vec<JobIndex>>,
    pub(crate) when: When,
    /// Number of its resource group.
    pub(crate) resource: Option<usize>,
    pub(crate) allow_failure: AllowFailure,
    pub(crate) retry: Retry,
}

impl Plan {
    /// Plans an evaluated pipeline; jobs keep their order. Needs of jobs that are not part of it are ignored.
    pub(crate) fn new(pipeline: &Pipeline) -> Self {
        let index = |name: &str| pipeline.jobs.iter().position(|job| job.name == name);
        let groups: Vec<&String> = pipeline.jobs.iter().filter_map(|job| job.resource_group.as_ref()).collect();
        let resource = |group: &String| groups.iter().position(|known| *known == group);
        let jobs = pipeline.jobs.iter().map(|job| PlannedJob {
            stage: pipeline.stages.iter().position(|stage| *stage == job.stage).unwrap_or(0),
            needs: job.needs.as_ref().map(|needs| needs.iter().filter_map(|need| index(&need.job)).collect()),
            when: job.when,
            resource: job.resource_group.as_ref().and_then(resource),
            allow_failure: job.allow_failure.clone(),
            retry: job.retry.clone(),
        });
        Self { jobs: jobs.collect(), cancel_on_failure: pipeline.cancel_on_failure }
    }
}

/// Where a pipeline stands.
#[derive(Debug, Clone)]
pub(crate) struct State {
    plan: Arc<Plan>,
    jobs: Vec<JobState>,
    is_finished: bool,
}

#[derive(Debug, Clone)]
struct JobState {
    status: JobStatus,
    /// A failure, or not being started by hand, does not count.
    is_allowed_to_fail: bool,
    tries: u8,
    /// It runs, and was told to stop.
    is_canceling: bool,
}

/// What has to be remembered of a job for [`State::restored`].
#[derive(Debug, Clone)]
pub(crate) struct RestoredJob {
    pub(crate) status: JobStatus,
    pub(crate) is_allowed_to_fail: bool,
    pub(crate) tries: u8,
    pub(crate) is_canceling: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Everything is set up.
    Begin,
    /// A runner took a pending job.
    Started(JobIndex),
    /// A runner is done with a job.
    Ended(JobIndex, Outcome),
    /// A delayed job has waited long enough.
    Due(JobIndex),
    /// Somebody stops the pipeline.
    Cancel,
    /// Somebody stops one job.
    CancelJob(JobIndex),
    /// Somebody starts a job that waits for it.
    Play(JobIndex),
    /// Somebody wants a job that ended to run again.
    Retry(JobIndex),
    /// The runner that took a job did not confirm it, or is gone without having begun.
    Returned(JobIndex),
}

/// How a job's run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Failed { reason: FailureReason, exit_code: Option<i32> },
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Hand the job to the next runner that asks.
    Enqueue(JobIndex),
    /// A job ended; whether it is allowed to fail is decided.
    Close { job: JobIndex, status: JobStatus, is_allowed_to_fail: bool },
    /// The run of a job failed and it is to run again; `Enqueue` follows.
    Retry(JobIndex),
    /// A job that was skipped waits again.
    Reopen(JobIndex),
    /// The job waits for somebody.
    Hold(JobIndex),
    /// Say when the time of the job has come.
    Delay(JobIndex),
    /// The job waits for its resource group.
    Queue(JobIndex),
    /// Tell the runner of a job to stop it.
    Stop(JobIndex),
    /// Nothing more can happen.
    Finish(PipelineStatus),
}

impl State {
    /// Makes the state before [`Event::Begin`].
    pub(crate) fn new(plan: Plan) -> Self {
        let job = |job: &PlannedJob| JobState {
            status: JobStatus::Created,
            is_allowed_to_fail: job.allow_failure == AllowFailure::Always,
            tries: 1,
            is_canceling: false,
        };
        Self { jobs: plan.jobs.iter().map(job).collect(), plan: Arc::new(plan), is_finished: false }
    }

    /// Makes a state that was left earlier.
    pub(crate) fn restored(plan: Plan, jobs: Vec<RestoredJob>) -> Self {
        let mut state = Self::new(plan);
        for (job, restored) in state.jobs.iter_mut().zip(jobs) {
            job.status = restored.status;
            job.tries = restored.tries.max(1);
            job.is_canceling = restored.is_canceling;
            if restored.status.is_completed() {
                job.is_allowed_to_fail = restored.is_allowed_to_fail;
            }
        }
        state.is_finished = !state.is_active() && !state.jobs.iter().any(|job| job.status == JobStatus::Created);
        state
    }

    pub(crate) fn status(&self, job: JobIndex) -> JobStatus {
        self.jobs[job].status
    }

    /// Tells whether nothing more happens by itself.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Returns the status of the whole pipeline.
    pub(crate) fn pipeline_status(&self) -> PipelineStatus {
        let everything: Vec<JobIndex> = (0..self.jobs.len()).collect();
        pipeline_status(composite(&self.members(&everything), Mode::Stage))
    }

    fn members(&self, jobs: &[JobIndex]) -> Vec<Member> {
        jobs.iter().map(|job| Member::of(self.jobs[*job].status, self.jobs[*job].is_allowed_to_fail)).collect()
    }

    fn is_active(&self) -> bool {
        self.jobs
            .iter()
            .any(|job| matches!(job.status, JobStatus::Pending | JobStatus::Running | JobStatus::Scheduled | JobStatus::WaitingForResource))
    }
}

/// Advances the pipeline by one event. Events that make no sense in the state are ignored: runners may repeat themselves.
pub(crate) fn next(state: &State, event: Event) -> (State, Vec<Command>) {
    let mut step = Step { state: state.clone(), commands: Vec::new() };
    match event {
        Event::Begin => {}
        Event::Started(job) => step.start(job),
        Event::Ended(job, outcome) => step.end(job, &outcome),
        Event::Due(job) => step.due(job),
        Event::Cancel => step.cancel(),
        Event::CancelJob(job) => step.cancel_job(job),
        Event::Play(job) => step.play(job),
        Event::Retry(job) => step.retry(job),
        Event::Returned(job) => step.take_back(job),
    }
    step.settle();
    (step.state, step.commands)
}

struct Step {
    state: State,
    commands: Vec<Command>,
}

impl Step {
    fn start(&mut self, job: JobIndex) {
        if self.state.jobs[job].status == JobStatus::Pending {
            self.state.jobs[job].status = JobStatus::Running;
        }
    }

    fn due(&mut self, job: JobIndex) {
        if self.state.jobs[job].status == JobStatus::Scheduled {
            self.enqueue(job);
        }
    }

    /// Makes a job pending, unless another job of its group holds the resource.
    fn enqueue(&mut self, job: JobIndex) {
        let plan = self.state.plan.clone();
        let holds = |other: &JobIndex| {
            plan.jobs[*other].resource == plan.jobs[job].resource
                && matches!(self.state.jobs[*other].status, JobStatus::Pending | JobStatus::Running)
        };
        self.state.is_finished = false;
        let is_held = plan.jobs[job].resource.is_some() && (0..plan.jobs.len()).any(|other| holds(&other));
        self.state.jobs[job].status = if is_held { JobStatus::WaitingForResource } else { JobStatus::Pending };
        self.commands.push(if is_held { Command::Queue(job) } else { Command::Enqueue(job) });
    }

    /// Gives the resource of a job that ended to the first that waits for it.
    fn release(&mut self, ended: JobIndex) {
        let plan = self.state.plan.clone();
        let waits = |other: &JobIndex| {
            plan.jobs[*other].resource == plan.jobs[ended].resource && self.state.jobs[*other].status == JobStatus::WaitingForResource
        };
        if plan.jobs[ended].resource.is_some()
            && let Some(following) = (0..plan.jobs.len()).find(waits)
        {
            self.enqueue(following);
        }
    }

    fn end(&mut self, job: JobIndex, outcome: &Outcome) {
        let planned = self.state.plan.clone();
        let planned = &planned.jobs[job];
        let current = &mut self.state.jobs[job];
        if current.status != JobStatus::Running {
            return;
        }
        if current.is_canceling {
            return self.close_run(job, JobStatus::Canceled);
        }
        let Outcome::Failed { reason, exit_code } = outcome else {
            return self.close_run(job, JobStatus::Success);
        };
        if current.tries <= planned.retry.max && is_retried(&planned.retry, *reason, *exit_code) {
            current.tries += 1;
            current.status = JobStatus::Pending;
            self.commands.extend([Command::Retry(job), Command::Enqueue(job)]);
            return;
        }
        current.is_allowed_to_fail = planned.allow_failure.allows(*exit_code);
        let is_fatal = !current.is_allowed_to_fail;
        self.close_run(job, JobStatus::Failed);
        if is_fatal && self.state.plan.cancel_on_failure {
            self.cancel();
        }
    }

    /// Stops what runs, and ends what does not. Jobs that wait for somebody end too: nobody will come any more. Those
    /// that wait for a resource end first, so that none of them is given it.
    fn cancel(&mut self) {
        for job in 0..self.state.jobs.len() {
            if self.state.jobs[job].status == JobStatus::WaitingForResource {
                self.cancel_job(job);
            }
        }
        for job in 0..self.state.jobs.len() {
            self.cancel_job(job);
        }
    }

    fn cancel_job(&mut self, job: JobIndex) {
        match self.state.jobs[job].status {
            JobStatus::Created | JobStatus::Manual | JobStatus::Scheduled | JobStatus::WaitingForResource => {
                self.close(job, JobStatus::Canceled);
            }
            // It holds the resource of its group.
            JobStatus::Pending => self.close_run(job, JobStatus::Canceled),
            JobStatus::Running if !self.state.jobs[job].is_canceling => {
                self.state.jobs[job].is_canceling = true;
                self.commands.push(Command::Stop(job));
            }
            _ => {}
        }
    }

    fn play(&mut self, job: JobIndex) {
        if matches!(self.state.jobs[job].status, JobStatus::Manual | JobStatus::Scheduled) {
            self.enqueue(job);
        }
    }

    /// What was skipped after the job gets another chance, as on GitLab.
    fn retry(&mut self, job: JobIndex) {
        let current = &mut self.state.jobs[job];
        if !matches!(current.status, JobStatus::Success | JobStatus::Failed | JobStatus::Canceled) {
            return;
        }
        current.tries = 1;
        current.is_canceling = false;
        current.is_allowed_to_fail = self.state.plan.jobs[job].allow_failure == AllowFailure::Always;
        self.commands.push(Command::Retry(job));
        self.enqueue(job);
        for other in self.later_jobs(job) {
            if self.state.jobs[other].status == JobStatus::Skipped {
                self.state.jobs[other].status = JobStatus::Created;
                self.commands.push(Command::Reopen(other));
            }
        }
    }

    /// Jobs of later stages, and those that need the job, directly or not.
    fn later_jobs(&self, job: JobIndex) -> Vec<JobIndex> {
        let plan = &self.state.plan.jobs;
        let mut later = vec![job];
        let mut next = 0;
        while let Some(current) = later.get(next).copied() {
            next += 1;
            for (other, planned) in plan.iter().enumerate() {
                let follows = match &planned.needs {
                    Some(needs) => needs.contains(&current),
                    None => planned.stage > plan[current].stage,
                };
                if follows && !later.contains(&other) {
                    later.push(other);
                }
            }
        }
        later.split_off(1)
    }

    fn take_back(&mut self, job: JobIndex) {
        if self.state.jobs[job].status == JobStatus::Running && !self.state.jobs[job].is_canceling {
            // It keeps the resource of its group.
            self.state.jobs[job].status = JobStatus::Pending;
            self.commands.push(Command::Enqueue(job));
        }
    }

    fn close(&mut self, job: JobIndex, status: JobStatus) {
        self.state.jobs[job].status = status;
        let is_allowed_to_fail = self.state.jobs[job].is_allowed_to_fail && matches!(status, JobStatus::Failed | JobStatus::Canceled);
        self.commands.push(Command::Close { job, status, is_allowed_to_fail });
    }

    /// Closes a job that ran, and lets the next of its group run.
    fn close_run(&mut self, job: JobIndex, status: JobStatus) {
        self.close(job, status);
        self.release(job);
    }

    /// Moves created jobs on until nothing changes.
    fn settle(&mut self) {
        let mut has_changed = true;
        while has_changed {
            has_changed = false;
            for job in 0..self.state.jobs.len() {
                has_changed |= self.advance(job);
            }
        }
        if !self.state.is_finished && !self.state.is_active() {
            self.state.is_finished = true;
            self.commands.push(Command::Finish(self.state.pipeline_status()));
        }
    }

    fn advance(&mut self, job: JobIndex) -> bool {
        if self.state.jobs[job].status != JobStatus::Created {
            return false;
        }
        let plan = self.state.plan.clone();
        let planned = &plan.jobs[job];
        let (previous, mode) = match &planned.needs {
            Some(needs) => (needs.clone(), Mode::Needs),
            None => ((0..plan.jobs.len()).filter(|other| plan.jobs[*other].stage < planned.stage).collect(), Mode::Stage),
        };
        let Some(previous) = Completed::of(composite(&self.state.members(&previous), mode)) else { return false };
        if !runs_after(planned.when, previous, mode) {
            self.close(job, JobStatus::Skipped);
        } else if planned.when == When::Manual {
            self.state.jobs[job].status = JobStatus::Manual;
            self.commands.push(Command::Hold(job));
        } else if planned.when == When::Delayed {
            self.state.jobs[job].status = JobStatus::Scheduled;
            self.commands.push(Command::Delay(job));
        } else {
            self.enqueue(job);
        }
        true
    }
}

/// Whether a failed run is repeated.
fn is_retried(retry: &Retry, reason: FailureReason, exit_code: Option<i32>) -> bool {
    let reason = reason.as_str();
    retry.when.iter().any(|when| when == "always" || when == reason) || exit_code.is_some_and(|code| retry.exit_codes.contains(&code))
}

/// Whether a job looks at the jobs it needs or at earlier stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Needs,
    Stage,
}

fn runs_after(when: When, previous: Completed, mode: Mode) -> bool {
    match when {
        When::OnSuccess | When::Manual | When::Delayed => {
            previous == Completed::Success || (previous == Completed::Skipped && mode == Mode::Stage)
        }
        When::OnFailure => previous == Completed::Failed,
        When::Always => previous != Completed::Canceled,
    }
}

/// A job as the folding sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Plain(JobStatus),
    /// Failed or canceled, and allowed to.
    Warning,
    /// Waits for somebody, and nothing waits for it.
    Ignored,
}

impl Member {
    fn of(status: JobStatus, is_allowed_to_fail: bool) -> Self {
        match status {
            JobStatus::Failed | JobStatus::Canceled if is_allowed_to_fail => Self::Warning,
            JobStatus::Manual if is_allowed_to_fail => Self::Ignored,
            _ => Self::Plain(status),
        }
    }
}

/// Folds the states of several jobs into one, by GitLab's list of rules, in its order.
fn composite(members: &[Member], mode: Mode) -> JobStatus {
    use JobStatus::{Canceled, Created, Failed, Manual, Pending, Running, Scheduled, Skipped, Success, WaitingForResource};
    use Member::{Ignored, Plain, Warning};
    let any = |wanted: &[Member]| members.iter().any(|member| wanted.contains(member));
    let only = |wanted: &[Member]| members.iter().all(|member| wanted.contains(member));
    let needs_what_does_not_run = mode == Mode::Needs && any(&[Plain(Skipped), Ignored]);
    if needs_what_does_not_run || (!members.is_empty() && only(&[Plain(Skipped), Ignored])) {
        Skipped
    } else if only(&[Plain(Success), Plain(Skipped), Warning, Ignored]) {
        Success
    } else if only(&[Plain(Created), Warning, Ignored]) {
        Created
    } else if only(&[Plain(Canceled), Plain(Success), Plain(Skipped), Warning, Ignored]) {
        Canceled
    } else if only(&[Plain(Pending), Plain(Created), Plain(Skipped), Warning, Ignored]) {
        Pending
    } else if any(&[Plain(Running), Plain(Pending)]) {
        Running
    } else if any(&[Plain(WaitingForResource)]) {
        WaitingForResource
    } else if any(&[Plain(Manual)]) {
        Manual
    } else if any(&[Plain(Scheduled)]) {
        Scheduled
    } else if any(&[Plain(Created)]) {
        Running
    } else {
        Failed
    }
}

/// A folded state from which nothing changes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Completed {
    Success,
    Failed,
    Canceled,
    Skipped,
}

impl Completed {
    fn of(status: JobStatus) -> Option<Self> {
        match status {
            JobStatus::Success => Some(Self::Success),
            JobStatus::Failed => Some(Self::Failed),
            JobStatus::Canceled => Some(Self::Canceled),
            JobStatus::Skipped => Some(Self::Skipped),
            JobStatus::Created
            | JobStatus::Pending
            | JobStatus::Running
            | JobStatus::Manual
            | JobStatus::Scheduled
            | JobStatus::WaitingForResource => None,
        }
    }
}

fn pipeline_status(status: JobStatus) -> PipelineStatus {
    match status {
        JobStatus::Created => PipelineStatus::Created,
        JobStatus::Pending => PipelineStatus::Pending,
        JobStatus::Running | JobStatus::Scheduled | JobStatus::WaitingForResource => PipelineStatus::Running,
        JobStatus::Success => PipelineStatus::Success,
        JobStatus::Failed => PipelineStatus::Failed,
        JobStatus::Canceled => PipelineStatus::Canceled,
        JobStatus::Skipped => PipelineStatus::Skipped,
        JobStatus::Manual => PipelineStatus::Manual,
    }
}

#[cfg(test)]
mod tests;

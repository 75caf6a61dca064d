//! Scripts around the sources: the runner's own and those of `hooks:`.

use dockwright_job::HookName;

use super::Work;
use crate::{Phase, executor::ExecuteError, script::ScriptKind, sources::Strategy};

impl Work<'_> {
    /// Runs what belongs before the sources, the runner's script first.
    pub(super) async fn before_sources(&mut self, strategy: Strategy) -> Result<(), ExecuteError> {
        let own = self.context.config.pre_get_sources_script.clone();
        let commands = [vec![own], self.hook(HookName::PreGetSourcesScript)].concat();
        self.around_sources(ScriptKind::BeforeSources, commands, strategy).await
    }

    /// Runs what belongs behind the sources, the runner's script last.
    pub(super) async fn behind_sources(&mut self, strategy: Strategy) -> Result<(), ExecuteError> {
        let own = self.context.config.post_get_sources_script.clone();
        let commands = [self.hook(HookName::PostGetSourcesScript), vec![own]].concat();
        self.around_sources(ScriptKind::BehindSources, commands, strategy).await
    }

    fn hook(&self, name: HookName) -> Vec<String> {
        let hooks = self.context.payload.hooks.iter().filter(|hook| hook.name == name);
        hooks.flat_map(|hook| hook.script.iter().cloned()).collect()
    }

    /// Without sources there is nothing that the scripts could be around.
    async fn around_sources(&mut self, kind: ScriptKind, mut commands: Vec<String>, strategy: Strategy) -> Result<(), ExecuteError> {
        commands.retain(|command| !command.trim().is_empty());
        if commands.is_empty() || matches!(strategy, Strategy::None | Strategy::Empty) {
            return Ok(());
        }
        let script = self.script(kind, &commands);
        self.executor.run_script(&self.context, &Phase::GetSources, script, &self.stops.job).await
    }
}

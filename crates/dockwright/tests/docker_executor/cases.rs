//! The jobs that are run on both engines.

use dockwright_job::{
    Artifact, ArtifactFormat, ArtifactWhen, Cache, CachePolicy, Credentials, Dependency, DependencyFile, Image, JobPayload, Variable,
};
use dockwright_runner::{RunnerConfig, config::PullPolicy};

use crate::{
    support::{Place, image, step, variable},
    world::{PASSWORD, USER, auths},
};

type Change = Box<dyn Fn(&mut RunnerConfig) + Send + Sync>;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) payload: JobPayload,
    pub(crate) config: Option<Change>,
    /// The job is cancelled when it shows this.
    pub(crate) cancel_on: Option<&'static str>,
}

struct Cases<'a> {
    place: &'a Place,
    list: Vec<Case>,
}

impl Cases<'_> {
    fn add(&mut self, name: &'static str, image_name: &str, script: &[&str], change: impl FnOnce(&mut JobPayload)) -> &mut Case {
        let number = self.list.len() as u64 + 1;
        let mut payload = JobPayload { image: Some(image(image_name)), ..self.place.payload(number, script) };
        change(&mut payload);
        self.list.push(Case { name, payload, config: None, cancel_on: None });
        self.list.last_mut().expect("it was just added")
    }

    /// Gives the last case other settings of the runner.
    fn with_config(&mut self, change: impl Fn(&mut RunnerConfig) + Send + Sync + 'static) {
        self.list.last_mut().expect("there is a case").config = Some(Box::new(change));
    }
}

/// Returns all cases, in an order in which caches and artifacts go from one to the next. `shared` is a directory of this machine that
/// containers may mount, `image_id` the id of busybox.
pub(crate) fn cases(place: &Place, shared: &str, image_id: &str, registries: &[&str]) -> Vec<Case> {
    let mut cases = Cases { place, list: Vec::new() };
    surroundings(&mut cases, image_id);
    entry_points_and_users(&mut cases);
    ends(&mut cases);
    services(&mut cases);
    networks(&mut cases);
    volumes(&mut cases, shared);
    files_between_jobs(&mut cases);
    missing_images(&mut cases);
    for registry in registries {
        images_of_a_registry(&mut cases, registry);
    }
    cases.list
}

fn surroundings(cases: &mut Cases<'_>, image_id: &str) {
    let look = [
        "cat hello.txt; pwd; hostname; id; umask; tty; ls -lan | awk '{print $1, $3, $4, $9}'",
        "env | sort; set -o | sort",
        "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; ls /dev; ls -la /dev | grep '^l' | awk '{print $9, $10, $11}'",
        "cat /proc/1/cmdline | tr '\\0' ' '; cat /etc/hosts; grep -v '^#' /etc/resolv.conf; ls -la / | awk '{print $1, $3, $4, $9}'",
        "ulimit -a; cat /proc/self/oom_score_adj; cat /proc/self/cgroup | wc -l; cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
        "ip addr show lo | grep inet; ls /sys/class/net; stat -c '%a %u %g' /builds /tmp /cache . .git; ls /proc/self/fd | wc -l",
        "mount | awk '{print $1, $3, $5, $6}' | grep -v -e overlay -e /dev/vda -e ' ext4 ' | sort",
    ];
    cases.add("an image by its name, and what there is around the job", "busybox", &look, |_| {});
    cases.add("with a tag", "busybox:latest", &["echo tagged"], |_| {});
    cases.add("by a variable", "$REPOSITORY:${TAG}", &["echo $CI_JOB_IMAGE"], |payload| {
        payload.variables = vec![variable("REPOSITORY", "busybox"), variable("TAG", "latest")];
    });
    cases.add("by its id", image_id, &["echo by id"], |payload| {
        payload.image.as_mut().expect("an image").pull_policy = vec!["if-not-present".to_owned()];
    });
    cases.add("the default image of the runner", "", &["echo default"], |payload| payload.image = None);
    cases.with_config(|config| config.docker.default_image = Some("busybox".to_owned()));
    cases.add(
        "masked and file variables",
        "busybox",
        &["echo \"secret: $SECRET\"; printf 'a-masked'; sleep 0.3; echo '-value'", "cat $KEY; echo; ls $(dirname $KEY); echo $NESTED"],
        |payload| {
            payload.variables = vec![
                Variable { masked: true, ..variable("SECRET", "a-masked-value") },
                Variable { file: true, ..variable("KEY", "content of a file") },
                variable("NESTED", "$CI_PROJECT_DIR and ${CI_PIPELINE_ID}$$"),
            ];
        },
    );
    cases.add(
        "sections, colours, progress lines and much output",
        "busybox",
        &[
            "printf 'section_start:%s:my_section\\r\\033[0KTitle\\n' 1; echo inside; printf 'section_end:%s:my_section\\r\\033[0K\\n' 2",
            "printf '10%%\\r'; sleep 0.2; printf '50%%\\r'; sleep 0.2; printf '100%%\\n'; printf 'no line end'",
            "seq 1 20000 | md5sum; seq 1 3000",
            "printf 'caf\\303\\251 \\377\\376 binary\\n'; head -c 3 /dev/zero; echo",
            "echo first >&2; sleep 0.3; echo second; sleep 0.3; echo third >&2",
            "cat; echo standard input was empty",
        ],
        |_| {},
    );
    cases.add("lines of several commands", "busybox", &["echo one\necho two\n", "", "for i in 1 2; do\n  echo $i\ndone"], |_| {});
    cases.add("a shell with traces", "busybox", &["echo traced"], |payload| payload.variables = vec![variable("CI_DEBUG_TRACE", "true")]);
    cases.add("no sources", "busybox", &["ls -a | wc -l"], |payload| payload.variables = vec![variable("GIT_STRATEGY", "none")]);
    cases.add("without sections", "busybox", &["echo plain"], |payload| payload.features.trace_sections = false);
}

fn entry_points_and_users(cases: &mut Cases<'_>) {
    let entry_point = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let script = ["echo \"entry: $FROM_ENTRY_POINT $MORE.\""];
    cases.add("the entry point of the image", "entry:1", &script, |_| {});
    for (name, words) in [
        ("an entry point that was cleared", &[""][..]),
        ("another entry point", &["/entry.sh", "env", "MORE=more"]),
        ("an entry point that does not run the shell", &["/bin/echo", "instead"]),
        ("an entry point that fails", &["/bin/false"]),
        ("an entry point that does not exist", &["/nonexistent"]),
        ("an entry point that is no program", &["/etc/passwd"]),
    ] {
        cases.add(name, "entry:1", &script, |payload| {
            payload.image = Some(Image { entrypoint: entry_point(words), ..image("entry:1") });
        });
    }
    cases.add("an image without a shell", "empty:1", &["echo never"], |_| {});
    cases.add("the user of the image", "user:1", &["id; echo mine > file; stat -c '%u %g' file; echo $HOME"], |_| {});
    for (name, user) in
        [("a user of the job", "1234:5678"), ("a user by name", "root"), ("a user who does not exist", "nobody-of-that-name")]
    {
        cases.add(name, "busybox", &["id -u; id -g; touch made; echo $HOME"], |payload| {
            payload.image.as_mut().expect("an image").executor_opts.docker.user = Some(user.to_owned());
        });
    }
}

fn ends(cases: &mut Cases<'_>) {
    cases.add("an exit code", "busybox", &["echo before", "(exit 42)", "echo never"], |_| {});
    cases.add("a command that does not exist", "busybox", &["no-such-command --flag"], |_| {});
    cases.add("a file that is not executable", "busybox", &["./run.sh"], |_| {});
    cases.add("a pipe that fails", "busybox", &["false | true"], |_| {});
    cases.add("a shell that kills itself", "busybox", &["kill -9 $$"], |_| {});
    cases.add("processes that stay behind", "busybox", &["sleep 1000 & echo left"], |_| {});
    cases.add("after_script", "busybox", &["echo kept > /tmp/kept; export GONE=1"], |payload| {
        payload.steps.push(step("after_script", &["cat /tmp/kept; echo \"$CI_JOB_STATUS, gone: $GONE.\""]));
    });
    cases.add("after_script of a failed job", "busybox", &["exit 3"], |payload| {
        payload.steps.push(step("after_script", &["echo $CI_JOB_STATUS"]));
    });
    cases.add("after_script that fails", "busybox", &["echo fine"], |payload| {
        payload.steps.push(step("after_script", &["exit 4"]));
    });
    let stubborn = "trap 'echo terminated; exit 1' TERM; echo started; sleep 1000 & wait";
    cases.add("a script that takes too long", "busybox", &[stubborn], |payload| {
        payload.variables = vec![variable("RUNNER_SCRIPT_TIMEOUT", "2s")];
        payload.steps.push(step("after_script", &["echo $CI_JOB_STATUS"]));
    });
    cases.add("a job that takes too long", "busybox", &[stubborn], |payload| payload.runner_info.timeout = 4);
    cases
        .add("a job that is cancelled", "busybox", &[stubborn], |payload| {
            payload.steps.push(step("after_script", &["echo after $CI_JOB_STATUS"]));
        })
        .cancel_on = Some(" started\n");
}

fn services(cases: &mut Cases<'_>) {
    let ask = ["wget -q -O - http://web:8080/", "wget -q -O - http://second:8080/; wget -q -O - http://third:8080/"];
    cases.add("services by their names", "busybox", &ask, |payload| {
        payload.services = vec![image("web:1"), Image { alias: "second, third".to_owned(), ..image("web:1") }];
    });
    cases.add("a service with the same names as another", "busybox", &["echo done"], |payload| {
        payload.services = vec![image("web:1"), image("web:1")];
    });
    cases.add("a service that ends", "busybox", &["echo done"], |payload| payload.services = vec![image("deaf:1")]);
    cases.add("a service without ports", "busybox", &["echo done"], |payload| {
        payload.services = vec![Image { command: vec!["sleep".to_owned(), "1000".to_owned()], ..image("busybox") }];
    });
    cases.add("a service with a port of its own that nobody opens", "busybox", &["echo done"], |payload| {
        payload.services = vec![Image {
            variables: vec![variable("HEALTHCHECK_TCP_PORT", "9")],
            command: vec!["sleep".to_owned(), "1000".to_owned()],
            ..image("busybox")
        }];
    });
    cases.add("a service with a command, an entry point and variables", "busybox", &["wget -q -O - http://answer:7000/env"], |payload| {
        payload.variables = vec![variable("PUBLIC", "seen"), Variable { public: false, ..variable("PRIVATE", "unseen") }];
        let serve = "mkdir /srv; echo \"$OWN $PUBLIC $PRIVATE.\" > /srv/env; exec httpd -f -p 7000 -h /srv";
        payload.services = vec![Image {
            alias: "answer".to_owned(),
            entrypoint: vec!["sh".to_owned(), "-c".to_owned()],
            command: vec![serve.to_owned()],
            variables: vec![variable("OWN", "own of $PUBLIC"), variable("HEALTHCHECK_TCP_PORT", "7000")],
            ..image("busybox")
        }];
    });
    cases.add("a service that cannot be started", "busybox", &["echo never"], |payload| {
        payload.services = vec![Image { entrypoint: vec!["/nonexistent".to_owned()], ..image("busybox") }];
    });
    cases.add("a service of no image", "busybox", &["echo never"], |payload| payload.services = vec![image("not a name")]);
}

fn networks(cases: &mut Cases<'_>) {
    let ask = ["wget -q -O - http://web:8080/; wget -q -O - http://own:8080/", "echo \"${CI_BUILD_NETWORK_NAME%%-*}\"; ls /sys/class/net"];
    for (name, mode, per_build) in [
        ("a network of the job's own", None, "true"),
        ("the default network", Some("bridge"), ""),
        ("the default network by a feature flag", None, "false"),
    ] {
        cases.add(name, "busybox", &ask, |payload| {
            payload.services = vec![image("web:1")];
            payload.variables = vec![variable("FF_NETWORK_PER_BUILD", per_build)];
        });
        cases.with_config(move |config| {
            config.docker.network.mode = mode.map(str::to_owned);
            config.docker.services = vec![Image { alias: "own".to_owned(), ..image("web:1") }];
        });
    }
    cases.add("no network", "busybox", &["ls /sys/class/net"], |_| {});
    cases.with_config(|config| config.docker.network.mode = Some("none".to_owned()));
    cases.add("a network that does not exist", "busybox", &["echo never"], |_| {});
    cases.with_config(|config| config.docker.network.mode = Some("gone".to_owned()));
}

fn volumes(cases: &mut Cases<'_>, shared: &str) {
    let bind = format!("{shared}:/shared:ro");
    cases.add("volumes", "user:1", &["cat /shared/note", "echo kept >> /data/file; cat /data/file", "echo no > /shared/note"], |_| {
        std::fs::write(format!("{shared}/note"), "from this machine\n").expect("a file");
    });
    let volumes = vec!["/data".to_owned(), "relative".to_owned(), bind];
    cases.with_config(move |config| config.docker.volumes.clone_from(&volumes));
    cases.add("a volume of an earlier job", "busybox", &["cat /data/file"], |_| {});
    cases.with_config(|config| config.docker.volumes = vec!["/data".to_owned()]);
    cases.add("two volumes at one place", "busybox", &["echo never"], |_| {});
    cases.with_config(|config| config.docker.volumes = vec!["/data".to_owned(), "named:/data".to_owned()]);
    cases.add("a bind of what is not there", "busybox", &["ls -a /gone | wc -l"], |_| {});
    let gone = format!("{shared}/made-by-docker:/gone");
    cases.with_config(move |config| config.docker.volumes = vec![gone.clone()]);
}

fn files_between_jobs(cases: &mut Cases<'_>) {
    let cache = || Cache { key: "deps".to_owned(), paths: vec!["deps/".to_owned(), "none/".to_owned()], ..Cache::default() };
    let archive = |paths: &[&str]| Artifact { paths: paths.iter().map(|&path| path.to_owned()).collect(), ..Artifact::default() };
    cases.add("a cache is made", "busybox", &["mkdir deps; echo d > deps/d; ln -s d deps/link; chmod 700 deps/d"], |payload| {
        payload.cache = vec![cache()];
    });
    cases.add("a cache is used", "user:1", &["ls deps; cat deps/link"], |payload| {
        payload.cache = vec![Cache { policy: CachePolicy::Pull, ..cache() }];
    });
    cases.add(
        "artifacts are made",
        "busybox",
        &["mkdir out; echo built > out/a; echo no > out/b.tmp; echo KEY=value > build.env"],
        |payload| {
            let excluded = Artifact { exclude: vec!["**/*.tmp".to_owned()], untracked: true, ..archive(&["out", "missing/*"]) };
            let report = Artifact {
                artifact_type: "dotenv".to_owned(),
                artifact_format: ArtifactFormat::Gzip,
                when: ArtifactWhen::Always,
                ..archive(&["build.env"])
            };
            payload.artifacts = vec![excluded, report];
        },
    );
    cases.add("artifacts are used", "user:1", &["find out; cat out/a"], |payload| {
        payload.dependencies = vec![Dependency {
            name: "earlier".to_owned(),
            artifacts_file: DependencyFile { filename: "artifacts.zip".to_owned(), size: 1 },
            ..Dependency::default()
        }];
    });
    cases.add("artifacts of a failed job", "busybox", &["echo log > log; exit 1"], |payload| {
        payload.artifacts = vec![Artifact { when: ArtifactWhen::OnFailure, ..archive(&["log"]) }, archive(&["out"])];
    });
    cases.add("an artifact of a job is missing", "busybox", &["echo never"], |payload| {
        payload.dependencies = vec![Dependency {
            name: "earlier".to_owned(),
            artifacts_file: DependencyFile { filename: "nobody-made-this.zip".to_owned(), size: 1 },
            ..Dependency::default()
        }];
    });
}

fn missing_images(cases: &mut Cases<'_>) {
    cases.add("an image that was never there", "missing:1", &["echo never"], |payload| {
        payload.image.as_mut().expect("an image").pull_policy = vec!["never".to_owned()];
    });
    cases.add("a registry that is not there", "127.0.0.1:1/missing:1", &["echo never"], |_| {});
    cases.add("a name that is none", "UPPER/Case:1", &["echo never"], |_| {});
    cases.add("a platform that there is not", "busybox", &["uname -m"], |payload| {
        payload.image.as_mut().expect("an image").executor_opts.docker.platform = Some("linux/riscv64".to_owned());
    });
}

fn images_of_a_registry(cases: &mut Cases<'_>, registry: &str) {
    let app = format!("{registry}/group/app:1");
    let with_login = |payload: &mut JobPayload, password: &str| {
        payload.credentials = vec![Credentials {
            kind: "registry".to_owned(),
            url: registry.to_owned(),
            username: USER.to_owned(),
            password: password.to_owned(),
        }];
    };
    let always = |config: &mut RunnerConfig| config.docker.pull_policies = vec![PullPolicy::Always];
    cases.add("an image of a registry without credentials", &app, &["echo never"], |_| {});
    cases.add("with wrong credentials", &app, &["echo never"], |payload| with_login(payload, "wrong"));
    cases.add("with the job's credentials", &app, &["echo pulled"], |payload| with_login(payload, PASSWORD));
    cases.with_config(always);
    cases.add("with DOCKER_AUTH_CONFIG", &app, &["echo pulled"], |payload| {
        with_login(payload, "wrong");
        payload.variables = vec![variable("DOCKER_AUTH_CONFIG", &auths(registry, USER, PASSWORD))];
    });
    cases.with_config(always);
    cases.add("a tag that does not exist", &format!("{registry}/group/app:9"), &["echo never"], |payload| with_login(payload, PASSWORD));
    cases.add("a repository that does not exist", &format!("{registry}/group/none"), &["echo never"], |payload| {
        with_login(payload, PASSWORD);
    });
    cases.add("several policies", &format!("{registry}/group/app:9"), &["echo never"], |payload| {
        with_login(payload, PASSWORD);
        payload.image.as_mut().expect("an image").pull_policy = vec!["always".to_owned(), "never".to_owned()];
    });
}

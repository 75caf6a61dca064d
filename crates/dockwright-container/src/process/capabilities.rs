//! Which capabilities a process gets.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::Capabilities;
use crate::process::Refusal;

/// Names in the kernel's order: the position is the number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What every container of Docker has.
const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

impl Capabilities {
    /// Returns the set that is asked for, by Docker's rule: `ALL` first, then what is dropped, then what is added by name.
    pub(crate) fn resolve(&self) -> Result<CapabilitySet, Refusal> {
        if self.privileged {
            return Ok(all());
        }
        let (add_all, add) = parse(&self.add)?;
        let (drop_all, drop) = parse(&self.drop)?;
        let base = match (add_all, drop_all) {
            (true, _) => all(),
            (false, true) => CapabilitySet::empty(),
            (false, false) => DEFAULT,
        };
        Ok((base - drop) | add)
    }
}

fn all() -> CapabilitySet {
    CapabilitySet::from_bits_retain((1 << NAMES.len()) - 1)
}

fn parse(names: &[String]) -> Result<(bool, CapabilitySet), Refusal> {
    let mut everything = false;
    let mut set = CapabilitySet::empty();
    for name in names {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare == "ALL" {
            everything = true;
        } else {
            let number = NAMES.iter().position(|known| *known == bare);
            let number = number.ok_or_else(|| Refusal::invalid(format!("invalid capability: \"{name}\"")))?;
            set |= CapabilitySet::from_bits_retain(1 << number);
        }
    }
    Ok((everything, set))
}

/// Gives up every other capability for good: what the process may ever have again is in the bounding set. Those that the sandbox does
/// not have are left out, as on hosts that lack some themselves.
pub(crate) fn limit_bounding_set(wanted: CapabilitySet) -> rustix::io::Result<()> {
    for capability in all().iter().flat_map(|set| set.iter()) {
        if !wanted.contains(capability) && rustix::thread::capability_is_in_bounding_set(capability)? {
            rustix::thread::remove_capability_from_bounding_set(capability)?;
        }
    }
    Ok(())
}

/// Sets the effective and permitted capabilities of a process that is still root; the inheritable and ambient sets stay empty.
pub(crate) fn apply(wanted: CapabilitySet, keep: CapabilitySet) -> rustix::io::Result<()> {
    let had = capabilities(None)?;
    let set = (wanted | keep) & had.permitted;
    set_capabilities(None, CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(add: &[&str], drop: &[&str]) -> u64 {
        let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Capabilities { privileged: false, add: strings(add), drop: strings(drop) }.resolve().unwrap().bits()
    }

    #[test]
    fn dockers_rules() {
        // The mask that `docker run` containers show as CapEff.
        assert_eq!(resolve(&[], &[]), 0xa804_25fb);
        assert_eq!(resolve(&["ALL"], &[]), (1 << 41) - 1);
        assert_eq!(resolve(&[], &["all"]), 0);
        assert_eq!(resolve(&["net_admin"], &["ALL"]), 1 << 12);
        assert_eq!(resolve(&["CAP_SYS_ADMIN"], &["CHOWN"]), (0xa804_25fb | 1 << 21) & !1);
        assert_eq!(resolve(&["ALL"], &["SYS_ADMIN"]), ((1 << 41) - 1) & !(1 << 21));
    }

    #[test]
    fn unknown_names_are_refused() {
        let unknown = Capabilities { add: vec!["FLY".to_owned()], ..Capabilities::default() };
        assert_eq!(unknown.resolve().unwrap_err().message, "invalid capability: \"FLY\"");
    }
}

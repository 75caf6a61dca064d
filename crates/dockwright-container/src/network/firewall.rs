//! The one firewall rule of a sandbox: what containers send out through the egress interface leaves with the sandbox's address.
//!
//! In the words of `nft`:
//!
//! ```text
//! table ip dockwright {
//!     chain postrouting {
//!         type nat hook postrouting priority srcnat; policy accept;
//!         oifname "tap0" masquerade
//!     }
//! }
//! ```

use std::io;

use rustix::net::netlink::NETFILTER;

use super::netlink::{Connection, Message, NLM_F_CREATE};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NEWTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const NEWCHAIN: u16 = NFNL_SUBSYS_NFTABLES << 8 | 3;
const NEWRULE: u16 = NFNL_SUBSYS_NFTABLES << 8 | 6;
const NLM_F_APPEND: u16 = 0x800;
const NFPROTO_IPV4: u8 = 2;
const NF_INET_POST_ROUTING: u32 = 4;
/// `srcnat`.
const PRIORITY: u32 = 100;
const ACCEPT: u32 = 1;
const REGISTER: u32 = 1;
const META_OIFNAME: u32 = 7;
const CMP_EQ: u32 = 0;
/// Interface names are compared as the kernel stores them, filled up with zeroes.
const NAME_BYTES: usize = 16;

const TABLE: &str = "dockwright";
const CHAIN: &str = "postrouting";

/// Makes the table, chain and rule for an interface, which need not exist yet.
pub(super) fn masquerade(interface: &str) -> io::Result<()> {
    let mut name = [0; NAME_BYTES];
    name[..interface.len()].copy_from_slice(interface.as_bytes());
    let batch = |kind| Message::unacknowledged(kind, 0).body(&header(0, NFNL_SUBSYS_NFTABLES));
    let table = Message::new(NEWTABLE, NLM_F_CREATE).body(&header(NFPROTO_IPV4, 0)).string(1, TABLE);
    let chain = Message::new(NEWCHAIN, NLM_F_CREATE)
        .body(&header(NFPROTO_IPV4, 0))
        .string(1, TABLE)
        .string(3, CHAIN)
        .nested(4, |hook| number(number(hook, 1, NF_INET_POST_ROUTING), 2, PRIORITY));
    let chain = number(chain, 5, ACCEPT).string(7, "nat");
    let rule = Message::new(NEWRULE, NLM_F_CREATE | NLM_F_APPEND).body(&header(NFPROTO_IPV4, 0)).string(1, TABLE).string(2, CHAIN).nested(
        4,
        |expressions| {
            let expressions = expression(expressions, "meta", |meta| number(number(meta, 1, REGISTER), 2, META_OIFNAME));
            let expressions = expression(expressions, "cmp", |cmp| {
                number(number(cmp, 1, REGISTER), 2, CMP_EQ).nested(3, |data| data.attribute(1, &name))
            });
            expression(expressions, "masq", |masquerade| masquerade)
        },
    );
    let messages = vec![batch(NFNL_MSG_BATCH_BEGIN), table, chain, rule, batch(NFNL_MSG_BATCH_END)];
    Connection::open(Some(NETFILTER))?.batch(messages)
}

/// `struct nfgenmsg`.
fn header(family: u8, subsystem: u16) -> [u8; 4] {
    let [high, low] = subsystem.to_be_bytes();
    [family, 0, high, low]
}

fn number(message: Message, kind: u16, value: u32) -> Message {
    message.attribute(kind, &value.to_be_bytes())
}

fn expression(message: Message, name: &str, data: impl FnOnce(Message) -> Message) -> Message {
    message.nested(1, |element| element.string(1, name).nested(2, data))
}

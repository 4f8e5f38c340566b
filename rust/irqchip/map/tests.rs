// SPDX-License-Identifier: GPL-2.0
//! Tests of the map: against asking every identity, and by example.

use super::*;
use crate::lapic::x2apic_ldr;
use proptest::prelude::*;
use std::vec::Vec;

type TestMap = ApicMap<Vec<Slot>, Vec<Identity>>;

fn build(members: &[Identity], rules: DestRules) -> TestMap {
    let physical = std::vec![Slot::EMPTY; slots_needed(members)];
    ApicMap::new(members.to_vec(), physical, rules)
}

fn x2apic(id: u32) -> Identity {
    Identity {
        mode: Mode::X2Apic,
        enabled: true,
        model: LogicalModel::Flat,
        xapic_id: id as u8,
        x2apic_id: id,
        logical_id: x2apic_ldr(id),
    }
}

fn flat(id: u32) -> Identity {
    let logical_id = if id < 8 { 1 << id } else { 0 };
    Identity { mode: Mode::XApic, logical_id, ..x2apic(id) }
}

fn to(dest: u32, icr_low: u32) -> Message {
    Ipi::decode(icr_low | 0x4000, dest).message
}

const LOGICAL: u32 = 1 << 11;
const LOWEST: u32 = 1 << 8;

fn indices(route: Route<'_>) -> Vec<u16> {
    match route {
        Route::One(vcpu) => vcpu.map(|vcpu| vcpu.0).into_iter().collect(),
        Route::All(targets) | Route::OneOf(targets) => targets.map(|vcpu| vcpu.0).collect(),
    }
}

#[test]
fn x2apic_clusters() {
    let members: Vec<_> = (0..40).map(x2apic).collect();
    let map = build(&members, DestRules::default());
    assert_eq!(map.coverage(), Coverage { physical: true, logical: true, ids_unchanged: true });
    assert_eq!(indices(map.route(&to(17, 0x31))), [17]);
    assert_eq!(indices(map.route(&to(0x2_0013, LOGICAL | 0x31))), [32, 33, 36]);
    assert_eq!(indices(map.route(&to(0x2_ffff, LOGICAL | 0x31))), (32..40).collect::<Vec<_>>());
    assert!(indices(map.route(&to(0x3_0001, LOGICAL | 0x31))).is_empty());
    assert!(indices(map.route(&to(40, 0x31))).is_empty());
    assert_eq!(indices(map.route(&to(0xff, 0x31))).len(), 40);
    let ipi = Ipi { message: to(0xff, LOGICAL | 0x31), shorthand: Shorthand::None };
    assert_eq!(indices(map.route_ipi(&ipi, VcpuIndex(0))), (0..8).collect::<Vec<_>>());
}

#[test]
fn a_processor_still_in_xapic_mode_is_in_no_cluster() {
    let map = build(&[x2apic(0), flat(1 + 8), x2apic(2)], DestRules::default());
    assert_eq!(indices(map.route(&to(0xffff, LOGICAL | 0x31))), [0, 2]);
}

#[test]
fn shorthands() {
    let members: Vec<_> = (0..4).map(flat).collect();
    let map = build(&members, DestRules::default());
    let route = |low| indices(map.route_ipi(&Ipi::decode(low, 0), VcpuIndex(2)));
    assert_eq!(route(1 << 18 | 0x31), [2]);
    assert_eq!(route(2 << 18 | 0x31), [0, 1, 2, 3]);
    assert_eq!(route(3 << 18 | 0x31), [0, 1, 3]);
}

#[test]
fn arbitration() {
    let mut members: Vec<_> = (0..6).map(flat).collect();
    members[1].enabled = false;
    let map = build(&members, DestRules::default());
    let message = to(0x1f, LOGICAL | LOWEST | 0x32);
    let Route::OneOf(targets) = map.route(&message) else { panic!() };
    assert_eq!(targets.clone().map(|v| v.0).collect::<Vec<_>>(), [0, 2, 3, 4]);
    assert_eq!(map.pick_by_hash(targets.clone(), 0x32), Some(VcpuIndex(3)));
    assert_eq!(map.single_target(&message, true), Some(VcpuIndex(3)));
    assert_eq!(map.single_target(&message, false), None);
    let mut served = [5u32, 0, 4, 4, 9, 0];
    let mut order = Vec::new();
    for _ in 0..4 {
        let vcpu = map.pick_by_priority(targets.clone(), |v| served[usize::from(v.0)]).unwrap().0;
        served[usize::from(vcpu)] += 1;
        order.push(vcpu);
    }
    assert_eq!(order, [2, 3, 0, 2]);
    assert!(matches!(map.route(&to(0xff, LOWEST | 0x32)), Route::All(_)));
    let nobody = to(0xc0, LOGICAL | LOWEST | 0x32);
    let Route::OneOf(targets) = map.route(&nobody) else { panic!() };
    assert_eq!(map.pick_by_hash(targets, 0x32), None);
}

#[test]
fn ambiguous_ids_are_still_found() {
    let mut members: Vec<_> = (0..4).map(flat).collect();
    members[3].xapic_id = 1;
    members[2].logical_id = 3;
    let map = build(&members, DestRules::default());
    assert_eq!(map.coverage(), Coverage { physical: false, logical: false, ids_unchanged: false });
    assert_eq!(indices(map.route(&to(1, 0x31))), [1, 3]);
    assert_eq!(indices(map.route(&to(1, LOGICAL | 0x31))), [0, 2]);
    assert!(map.hypercall_targets(1, 0).is_none());
}

#[test]
fn hypercall_bitmap() {
    let members: Vec<_> = (0..70).map(x2apic).collect();
    let map = build(&members, DestRules::default());
    let targets =
        |bitmap, min| map.hypercall_targets(bitmap, min).unwrap().map(|v| v.0).collect::<Vec<_>>();
    assert_eq!(targets(0b101, 60), [60, 62]);
    assert_eq!(targets(u64::MAX, 68), [68, 69]);
    assert!(targets(u64::MAX, 70).is_empty() && targets(1, u32::MAX).is_empty());
}

#[test]
fn a_short_index_only_costs_speed() {
    let members: Vec<_> = (0..20).map(x2apic).collect();
    let map = ApicMap::new(members, std::vec![Slot::EMPTY; 4], DestRules::default());
    assert!(!map.coverage().physical);
    assert_eq!(indices(map.route(&to(17, 0x31))), [17]);
}

fn identity() -> impl Strategy<Value = Identity> {
    let mode = prop_oneof![
        1 => Just(Mode::Disabled), 4 => Just(Mode::XApic), 4 => Just(Mode::X2Apic)
    ];
    let model = prop_oneof![
        6 => Just(LogicalModel::Flat),
        2 => Just(LogicalModel::Cluster),
        1 => Just(LogicalModel::Reserved)
    ];
    (mode, model, any::<bool>(), 0u32..600, any::<bool>(), any::<u8>(), any::<u8>()).prop_map(
        |(mode, model, enabled, id, one_bit, logical, xapic_id)| Identity {
            mode,
            enabled,
            model,
            xapic_id: if one_bit { id as u8 } else { xapic_id },
            x2apic_id: id,
            logical_id: match mode {
                Mode::X2Apic => x2apic_ldr(id),
                _ if one_bit => 1 << (logical & 7),
                _ => u32::from(logical),
            },
        },
    )
}

/// Sets as guests make them: one mode, one model, mostly distinct IDs.
fn members() -> impl Strategy<Value = Vec<Identity>> {
    let any_set = || prop::collection::vec(identity(), 0..12);
    let uniform = (any_set(), identity(), any::<bool>()).prop_map(|(mut set, first, dense)| {
        for (n, id) in set.iter_mut().enumerate() {
            id.mode = first.mode;
            id.model = first.model;
            if dense {
                id.x2apic_id = n as u32;
                id.xapic_id = n as u8;
            }
            if id.mode == Mode::X2Apic {
                id.logical_id = x2apic_ldr(id.x2apic_id);
            } else if n < 8 {
                id.logical_id = match id.model {
                    LogicalModel::Cluster => (n as u32 / 4) << 4 | 1 << (n % 4),
                    _ => 1 << n,
                };
            } else {
                id.logical_id &= 0xff;
            }
        }
        set
    });
    prop_oneof![any_set(), uniform]
}

fn dest() -> impl Strategy<Value = u32> {
    prop_oneof![
        0u32..20,
        0u32..0x400,
        Just(BROADCAST),
        Just(BROADCAST_X2APIC),
        (0u32..40, any::<u16>()).prop_map(|(cluster, bits)| cluster << 16 | u32::from(bits)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn same_as_asking_everyone(
        members in members(),
        dest in dest(),
        low in any::<u32>(),
        sender in 0u16..12,
        device in any::<bool>(),
        wide_ids in any::<bool>(),
        no_broadcast_quirk in any::<bool>(),
    ) {
        let rules = DestRules { wide_ids, no_broadcast_quirk };
        let map = build(&members, rules);
        let ipi = Ipi::decode(low, dest);
        let message = &ipi.message;
        let route = if device { map.route(message) } else { map.route_ipi(&ipi, VcpuIndex(sender)) };
        // A physical broadcast goes to all, arbitrated or not.
        let from = if device { Sender::Device } else { Sender::Vcpu(VcpuIndex(sender)) };
        let broadcast =
            message.dest_mode == DestMode::Physical && map.may_broadcast(dest, from);
        let plain = device || ipi.shorthand == Shorthand::None;
        let one = message.is_arbitrated() && !(broadcast && plain);
        let mut found = indices(route);
        found.sort_unstable();
        let itself = !device && ipi.shorthand == Shorthand::Itself;
        let expected: Vec<u16> = if itself {
            std::vec![sender]
        } else {
            (0u16..).zip(&members)
                .filter(|(n, id)| if device {
                    id.matches(dest, message.dest_mode, Source::Device, rules)
                } else {
                    id.matches_ipi(ipi.shorthand, message, *n == sender, rules)
                })
                .filter(|(_, id)| !one || id.enabled)
                .map(|(n, _)| n)
                .collect()
        };
        prop_assert_eq!(found, expected);
    }
}

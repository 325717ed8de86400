//! Edges of attributes: what a device is told of who accesses it.

use std::sync::{Arc, Mutex};

use flatview::{AccessRules, Endianness, Le, MemTxAttrs, Memory, Ops, Reason, Region};

#[test]
fn unspecified_attributes_are_not_attributes_that_are_all_off() {
    let off = MemTxAttrs::new();
    assert!(MemTxAttrs::UNSPECIFIED.unspecified && !off.unspecified);
    assert_ne!(MemTxAttrs::UNSPECIFIED, off);
    assert_eq!(MemTxAttrs::default(), MemTxAttrs::UNSPECIFIED);
    assert_eq!(MemTxAttrs::UNSPECIFIED.requester_id, 0);
    // A filter that wants to know who asks tells them apart.
    let memory = Memory::new(Endianness::Little);
    let ops = Ops::new().accepts(|a| !a.attrs().unspecified).read(|_| Ok(1));
    let device = memory.add(Region::io("asks who", 4, ops)).unwrap();
    memory.map(memory.system(), 0, device).unwrap();
    let reader = memory.memory_space().reader();
    assert_eq!(reader.load::<Le, u8>(0).unwrap_err().reason(), Reason::Rejected);
    assert_eq!(reader.port(off).load::<Le, u8>(0), Ok(1));
}

#[test]
fn attributes_arrive_as_they_were_given_on_every_path() {
    let memory = Memory::new(Endianness::Little);
    let seen: Arc<Mutex<Vec<MemTxAttrs>>> = Arc::default();
    let (filter, read, write) = (seen.clone(), seen.clone(), seen.clone());
    // An unaligned access in pieces, with a read before each part of a write.
    let ops = Ops::new()
        .rules(AccessRules::new().valid_unaligned().implemented(2, 2))
        .accepts(move |a| {
            filter.lock().unwrap().push(a.attrs());
            true
        })
        .read(move |a| {
            read.lock().unwrap().push(a.attrs());
            Ok(0)
        })
        .write(move |a, _| {
            write.lock().unwrap().push(a.attrs());
            Ok(())
        });
    let device = memory.add(Region::io("device", 0x10, ops)).unwrap();
    memory.map(memory.system(), 0x1000, device).unwrap();
    let reader = memory.memory_space().reader();
    let all = [
        MemTxAttrs::UNSPECIFIED,
        MemTxAttrs::new(),
        MemTxAttrs::new().with_secure(true),
        MemTxAttrs::new().with_user(true).with_requester(0xbeef),
        MemTxAttrs::new().with_secure(true).with_user(true).with_requester(1),
    ];
    for attrs in all {
        let port = reader.port(attrs);
        port.load::<Le, u32>(0x1001).unwrap();
        port.store::<Le, u32>(0x1001, 0).unwrap();
        port.read(0x1003, &mut [0; 5]).unwrap();
        port.write(0x1003, &[0; 5]).unwrap();
        port.cpu_load::<Le, u32>(0x1003).unwrap();
        port.cpu_store::<Le, u32>(0x1003, 0).unwrap();
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        assert!(seen.len() > 20, "{seen:?}");
        assert!(seen.iter().all(|a| *a == attrs), "{attrs:?}: {seen:?}");
    }
}

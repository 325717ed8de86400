//! Results compared with the host's, with exact arithmetic, and with what must hold between rounding modes.

use super::*;

const MODES: [Rounding; 4] = [Rounding::Nearest, Rounding::Zero, Rounding::Up, Rounding::Down];

fn env(rounding: Rounding) -> Env {
    Env::new(rounding, &Rules::MIPS)
}

/// Numbers in which every part is likely to be an odd one.
fn number<F: Format>(random: &mut fastrand::Rng) -> u64 {
    let fraction = match random.u8(..6) {
        0 => 0,
        1 => fraction::<F>(),
        2 => 1 << random.u32(..F::FRACTION),
        3 => fraction::<F>() & !(1 << random.u32(..F::FRACTION)),
        _ => random.u64(..) & fraction::<F>(),
    };
    let most = infinity::<F>() >> F::FRACTION;
    let exponent = match random.u8(..8) {
        0 => 0,
        1 => most - random.u64(..3).min(most),
        2 => random.u64(..=4),
        3..6 => most / 2 + random.u64(..64) - 32,
        _ => random.u64(..most),
    };
    // A NaN now and then only.
    let exponent = if exponent == most && fraction != 0 && random.u8(..4) != 0 { most - 1 } else { exponent };
    let sign = if random.bool() { sign::<F>() } else { 0 };
    sign | exponent << F::FRACTION | fraction
}

fn same<F: Format>(what: &str, ours: u64, hosts: u64, operands: &[u64]) {
    if is_nan::<F>(hosts) {
        assert!(is_nan::<F>(ours), "{what} {operands:x?}: {ours:x}, the host a NaN");
    } else {
        assert_eq!(ours, hosts, "{what} {operands:x?}: {ours:x}, the host {hosts:x}");
    }
}

#[test]
fn results_rounded_to_nearest_are_the_hosts() {
    let mut random = fastrand::Rng::with_seed(1);
    let e = env(Rounding::Nearest);
    for _ in 0..60_000 {
        let bits: [u64; 3] = std::array::from_fn(|_| number::<Double>(&mut random));
        let [a, b, c] = bits.map(f64::from_bits);
        let hosts = [a + b, a - b, a * b, a / b, a.sqrt(), a.mul_add(b, c)].map(f64::to_bits);
        let ours = results::<Double>(&e, bits);
        for ((what, ours), hosts) in ours.into_iter().zip(hosts) {
            same::<Double>(what, ours.value, hosts, &bits);
        }
        same::<Single>("narrow", e.narrow(bits[0]).value, (a as f32).to_bits().into(), &bits);
        let bits: [u64; 3] = std::array::from_fn(|_| number::<Single>(&mut random));
        let [a, b, c] = bits.map(|v| f32::from_bits(v as u32));
        let hosts = [a + b, a - b, a * b, a / b, a.sqrt(), a.mul_add(b, c)].map(|v| v.to_bits().into());
        let ours = results::<Single>(&e, bits);
        for ((what, ours), hosts) in ours.into_iter().zip(hosts) {
            same::<Single>(what, ours.value, hosts, &bits);
        }
        same::<Double>("widen", e.widen(bits[0]).value, f64::from(a).to_bits(), &bits);
    }
}

fn results<F: Format>(e: &Env, [a, b, c]: [u64; 3]) -> [(&'static str, Out); 6] {
    [
        ("add", e.add::<F>(a, b)),
        ("sub", e.sub::<F>(a, b)),
        ("mul", e.mul::<F>(a, b)),
        ("div", e.div::<F>(a, b)),
        ("sqrt", e.sqrt::<F>(a)),
        ("mul_add", e.mul_add::<F>(a, b, c)),
    ]
}

/// Numbers in their order, as integers; both zeros are 0.
fn place<F: Format>(bits: u64) -> i64 {
    let magnitude = magnitude::<F>(bits).cast_signed();
    if is_negative::<F>(bits) { -magnitude } else { magnitude }
}

fn modes_agree<F: Format>(what: &str, operands: &[u64], outs: [Out; 4]) {
    let [nearest, zero, up, down] = outs;
    let said = format!("{what} {operands:x?}: {outs:x?}");
    if is_nan::<F>(nearest.value) {
        assert!(outs.iter().all(|o| *o == nearest), "{said}");
        return;
    }
    let inexact = nearest.flags.has(Flags::INEXACT);
    assert!(outs.iter().all(|o| o.flags.has(Flags::INEXACT) == inexact), "{said}");
    let [n, z, u, d] = outs.map(|o| place::<F>(o.value));
    assert_eq!(u - d, i64::from(inexact), "{said}");
    assert!(n == u || n == d, "{said}");
    // Minus zero is what is left of negative numbers only.
    let towards_zero = if u > 0 || u == 0 && !is_negative::<F>(up.value) { d } else { u };
    assert_eq!(z, towards_zero, "{said}");
    if !inexact {
        assert!(outs.iter().all(|o| o.flags == nearest.flags), "{said}");
    }
    for o in [zero, up, down, nearest] {
        let magnitude = magnitude::<F>(o.value);
        let below = magnitude < least_normal::<F>();
        let beyond = is_infinite::<F>(o.value);
        assert!(!(inexact && below) || o.flags.has(Flags::UNDERFLOW), "{said}");
        assert!(!o.flags.has(Flags::UNDERFLOW) || inexact && magnitude <= least_normal::<F>(), "{said}");
        assert!(!(inexact && beyond) || o.flags.has(Flags::OVERFLOW), "{said}");
        assert!(!o.flags.has(Flags::OVERFLOW) || inexact && magnitude >= infinity::<F>() - 1, "{said}");
    }
}

#[test]
fn the_rounding_modes_are_neighbours_of_one_exact_result() {
    let mut random = fastrand::Rng::with_seed(2);
    for _ in 0..40_000 {
        let bits: [u64; 3] = std::array::from_fn(|_| number::<Double>(&mut random));
        let outs = MODES.map(|m| results::<Double>(&env(m), bits));
        for (i, (what, _)) in outs[0].into_iter().enumerate() {
            modes_agree::<Double>(what, &bits, std::array::from_fn(|m| outs[m][i].1));
        }
        modes_agree::<Single>("narrow", &bits, MODES.map(|m| env(m).narrow(bits[0])));
        modes_agree::<Double>("from", &bits, MODES.map(|m| env(m).from_int::<Double>(bits[0] as i64)));
        modes_agree::<Single>("from", &bits, MODES.map(|m| env(m).from_int::<Single>(bits[0] as i64)));
        let bits: [u64; 3] = std::array::from_fn(|_| number::<Single>(&mut random));
        let outs = MODES.map(|m| results::<Single>(&env(m), bits));
        for (i, (what, _)) in outs[0].into_iter().enumerate() {
            modes_agree::<Single>(what, &bits, std::array::from_fn(|m| outs[m][i].1));
        }
    }
}

/// What a single number and its flags must be, by the exact value, which a double holds.
fn judge_single(exact: f64, mode: Rounding, tiny: Tiny) -> (f32, Flags) {
    let nearest = exact as f32;
    let directed = |up: bool| {
        let wrong = if up { f64::from(nearest) < exact } else { f64::from(nearest) > exact };
        match (wrong, up) {
            (false, _) => nearest,
            (true, true) => nearest.next_up(),
            (true, false) => nearest.next_down(),
        }
    };
    let round = |mode: Rounding| match mode {
        Rounding::Nearest => nearest,
        Rounding::Up => directed(true),
        Rounding::Down => directed(false),
        Rounding::Zero => directed(exact < 0.0),
    };
    let value = round(mode);
    let mut flags = Flags::default();
    if f64::from(value) != exact {
        flags |= Flags::INEXACT;
        // Rounded with exponents that have room: twice the bits below, and half the largest number above.
        let scaled = judge_single_in_room(exact * 2f64.powi(64), mode) * 2f64.powi(-64);
        let small = if tiny == Tiny::BeforeRounding { exact } else { scaled };
        if exact.abs() < 1.0 && small.abs() < f64::from(f32::MIN_POSITIVE) {
            flags |= Flags::UNDERFLOW;
        }
        let large = judge_single_in_room(exact * 2f64.powi(-64), mode) * 2f64.powi(64);
        if exact.abs() > 1.0 && large.abs() > f64::from(f32::MAX) {
            flags |= Flags::OVERFLOW;
        }
    }
    (value, flags)
}

fn judge_single_in_room(exact: f64, mode: Rounding) -> f64 {
    let nearest = exact as f32;
    let back = f64::from(nearest);
    f64::from(match mode {
        Rounding::Up if back < exact => nearest.next_up(),
        Rounding::Down if back > exact => nearest.next_down(),
        Rounding::Zero if back.abs() > exact.abs() => {
            if exact > 0.0 {
                nearest.next_down()
            } else {
                nearest.next_up()
            }
        }
        _ => nearest,
    })
}

#[test]
fn products_of_singles_have_the_flags_of_the_exact_product() {
    let mut random = fastrand::Rng::with_seed(3);
    let (mut underflows, mut overflows, mut edges) = (0, 0, 0);
    for _ in 0..200_000 {
        let mut bits: [u64; 2] = std::array::from_fn(|_| number::<Single>(&mut random));
        if random.bool() {
            // About the least normal number, or the largest.
            let near = if random.bool() { 1 } else { 255 };
            let a = bits[0] >> 23 & 255;
            let b = (near + 126_u64).saturating_sub(a).clamp(0, 254) + random.u64(..2);
            bits[1] = bits[1] & 0x807f_ffff | b.min(254) << 23;
        }
        let [a, b] = bits.map(|v| f32::from_bits(v as u32));
        if !a.is_finite() || !b.is_finite() {
            continue;
        }
        let exact = f64::from(a) * f64::from(b);
        for rules in [&Rules::MIPS, &Rules::POWERPC] {
            for mode in MODES {
                let (value, flags) = judge_single(exact, mode, rules.tiny);
                let ours = Env::new(mode, rules).mul::<Single>(bits[0], bits[1]);
                assert_eq!(
                    (ours.value, ours.flags),
                    (value.to_bits().into(), flags),
                    "{a:e} * {b:e} {mode:?}"
                );
                let narrow = Env::new(mode, rules).narrow(exact.to_bits());
                assert_eq!((narrow.value, narrow.flags), (ours.value, ours.flags), "{exact:e} {mode:?}");
                underflows += u32::from(flags.has(Flags::UNDERFLOW));
                overflows += u32::from(flags.has(Flags::OVERFLOW));
                let edge = value.abs() == f32::MIN_POSITIVE && flags.has(Flags::INEXACT);
                edges += u32::from(edge && flags.has(Flags::UNDERFLOW));
            }
        }
    }
    assert!(underflows > 1000 && overflows > 1000 && edges > 10, "{underflows} {overflows} {edges}");
}

#[test]
fn sums_of_singles_have_the_flags_of_the_exact_sum() {
    let mut random = fastrand::Rng::with_seed(4);
    for _ in 0..100_000 {
        let a = number::<Single>(&mut random);
        // Near enough that a double holds the sum.
        let exponent =
            (a >> 23 & 255).saturating_add(random.u64(..24)).saturating_sub(random.u64(..24)).min(254);
        let b = number::<Single>(&mut random) & 0x807f_ffff | exponent << 23;
        let [x, y] = [a, b].map(|v| f32::from_bits(v as u32));
        if !x.is_finite() {
            continue;
        }
        let exact = f64::from(x) + f64::from(y);
        for mode in MODES {
            let (value, flags) = judge_single(exact, mode, Tiny::AfterRounding);
            let ours = env(mode).add::<Single>(a, b);
            assert_eq!(ours.flags, flags, "{x:e} + {y:e} {mode:?}");
            if exact != 0.0 {
                assert_eq!(ours.value, u64::from(value.to_bits()), "{x:e} + {y:e} {mode:?}");
            } else if x != 0.0 {
                // What is exactly nothing has the sign of the mode.
                let zero = if mode == Rounding::Down { sign::<Single>() } else { 0 };
                assert_eq!(ours.value, zero, "{x:e} + {y:e} {mode:?}");
            }
        }
    }
}

#[test]
fn the_square_of_a_root_is_on_the_side_that_the_mode_says() {
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..50_000 {
        let a = number::<Double>(&mut random) & !sign::<Double>();
        // So that no square is a denormal number.
        let a = a & fraction::<Double>() | ((a >> 52 & 0x3ff) + 0x200) << 52;
        let [nearest, _, up, down] = MODES.map(|m| env(m).sqrt::<Double>(a));
        let [x, u, d] = [a, up.value, down.value].map(f64::from_bits);
        // The sign of a fused difference is exact.
        assert!(d.mul_add(d, -x) <= 0.0 && u.mul_add(u, -x) >= 0.0, "{x:e}");
        assert_eq!(up.flags.has(Flags::INEXACT), d.mul_add(d, -x) != 0.0, "{x:e}");
        assert_eq!(nearest.value, x.sqrt().to_bits());
        let s = number::<Single>(&mut random) & !sign::<Single>();
        if is_nan::<Single>(s) || is_infinite::<Single>(s) {
            continue;
        }
        let [_, _, up, down] = MODES.map(|m| env(m).sqrt::<Single>(s));
        let [x, u, d] = [s, up.value, down.value].map(|v| f64::from(f32::from_bits(v as u32)));
        assert!(d * d <= x && x <= u * u, "{x:e}");
        assert_eq!(up.flags.has(Flags::INEXACT), d * d != x, "{x:e}");
    }
}

#[test]
fn integers_are_rounded_as_the_mode_says() {
    let mut random = fastrand::Rng::with_seed(6);
    for _ in 0..50_000 {
        let a = number::<Double>(&mut random);
        let x = f64::from_bits(a);
        let rounded = [x.round_ties_even(), x.trunc(), x.ceil(), x.floor()];
        for (mode, rounded) in MODES.into_iter().zip(rounded) {
            for bits in [32, 64] {
                let out = env(Rounding::Nearest).to_int::<Double>(a, bits, mode);
                let limit = 2f64.powi(bits as i32 - 1);
                if x.is_nan() || rounded < -limit || rounded >= limit {
                    assert_eq!(out.flags.ieee(), Flags::INVALID.ieee(), "{x:e} {bits}");
                } else {
                    assert_eq!(out.value, rounded as i64, "{x:e} {bits}");
                    assert_eq!(out.flags.has(Flags::INEXACT), rounded != x, "{x:e} {bits}");
                }
            }
        }
        let single = random.i64(..) >> random.u32(..64);
        let out = env(Rounding::Nearest).from_int::<Single>(single);
        assert_eq!(out.value, u64::from((single as f32).to_bits()));
        assert_eq!(out.flags.has(Flags::INEXACT), single as f32 as i128 != i128::from(single));
    }
}

#[test]
fn nans_are_those_of_the_architecture() {
    let (mips, ppc) = (env(Rounding::Nearest), Env::new(Rounding::Nearest, &Rules::POWERPC));
    let one = 0x3f80_0000;
    // MIPS: the first bit set is signalling, and its place takes the default.
    let out = mips.add::<Single>(one, 0x7fc0_0001);
    assert_eq!((out.value, out.flags), (0x7fbf_ffff, Flags::INVALID | Flags::SIGNALLING));
    let out = mips.sub::<Single>(one, 0xff80_0002);
    assert_eq!((out.value, out.flags), (0x7fbf_ffff, Flags::default()));
    // PowerPC: it is made quiet.
    assert_eq!(ppc.add::<Single>(one, 0x7f80_0001).value, 0x7fc0_0001);
    assert_eq!(ppc.add::<Single>(0xffc0_0003, 0x7f80_0001).value, 0xffc0_0003);
    assert_eq!(ppc.div::<Double>(0, 0).value, 0x7ff8_0000_0000_0000);
    assert_eq!(ppc.div::<Double>(0, 0).flags, Flags::INVALID | Flags::ZERO_BY_ZERO);
    assert_eq!(ppc.sqrt::<Double>(1 << 63).value, 1 << 63);
    assert_eq!(ppc.sqrt::<Double>(0xbff << 52).flags, Flags::INVALID | Flags::NEGATIVE_ROOT);
    // Between formats; what says that it is a NaN may be cut off.
    assert_eq!(mips.widen(0xff80_0001).value, 0x7ff7_ffff_ffff_ffff);
    assert_eq!(mips.narrow(0x7ff0_0000_0000_0001).value, 0x7fbf_ffff);
    assert_eq!(ppc.widen(0xff80_0001).value, 0xfff8_0000_2000_0000);
    assert_eq!(ppc.widen(0xff80_0001).flags, Flags::INVALID | Flags::SIGNALLING);
    assert_eq!(ppc.narrow(0x7ff8_0000_2000_0001).value, 0x7fc0_0001);
    const LEGACY: Rules = Rules { pick: Pick::First, ..Rules::MIPS };
    let legacy = Env::new(Rounding::Nearest, &LEGACY);
    assert_eq!(legacy.narrow(0xfff0_0000_2000_0000).value, 0xff80_0001);
    assert_eq!(legacy.narrow(0x7ff0_0000_0000_0001).value, 0x7fbf_ffff);
    let inf = infinity::<Double>();
    assert_eq!(mips.mul_add::<Double>(inf, 0, inf).flags, Flags::INVALID | Flags::INF_TIMES_ZERO);
    assert_eq!(mips.mul_add::<Double>(inf, inf, inf | 1 << 63).flags, Flags::INVALID | Flags::INF_MINUS_INF);
}

#[test]
fn comparisons_know_zeros_and_nans() {
    let e = env(Rounding::Nearest);
    let cmp = |a: f64, b: f64| e.compare::<Double>(a.to_bits(), b.to_bits(), false);
    assert_eq!(cmp(0.0, -0.0).value, Some(Ordering::Equal));
    assert_eq!(cmp(-1.0, 1.0).value, Some(Ordering::Less));
    assert_eq!(cmp(-1.0, -2.0).value, Some(Ordering::Greater));
    assert_eq!(cmp(f64::NEG_INFINITY, f64::MIN).value, Some(Ordering::Less));
    let quiet = 0x7ff7_ffff_ffff_ffff;
    let out = e.compare::<Double>(quiet, 0, false);
    assert_eq!((out.value, out.flags), (None, Flags::default()));
    assert!(e.compare::<Double>(quiet, 0, true).flags.has(Flags::INVALID | Flags::UNORDERED));
    assert!(e.compare::<Double>(0x7ff8 << 48, 0, false).flags.has(Flags::INVALID | Flags::SIGNALLING));
}

//! Keys as text, and numbers that no detector had. How a detector goes on with what it recalls: tests/state.rs.

use super::*;

#[test]
fn keys_are_read_back_as_they_were() {
    for text in [
        "server 198.51.100.10:80",
        "server [2001:db8::1]:443",
        "host 198.51.100.10",
        "host 2001:db8::1",
        "prefix 198.51.100.0/24",
        "prefix 2001:db8:1::/48",
        "sensor",
    ] {
        let key: Key = named::deserialize(serde_json::Value::from(text)).unwrap();
        assert_eq!(named::serialize(&key, serde_json::value::Serializer).unwrap(), text);
    }
    for text in [
        "",
        "server",
        "server 198.51.100.10",
        "server x:80",
        "host 198.51.100.0/24",
        "prefix 198.51.100.1/24",
        "prefix 198.51.100.0/23",
        "prefix 2001:db8::/24",
        "sensor 1",
        "planet earth",
    ] {
        assert!(named::parse(text).is_none(), "{text}");
    }
}

#[test]
fn numbers_that_no_detector_had_are_refused() {
    let watch = Watch::new(Key::Sensor, Settings::of(Key::Sensor, &Default::default(), &[]), 0);
    let good = KnownKey::of(&watch, None);
    assert!(good.is_sane());
    for wrong in [f64::NAN, f64::INFINITY, -1.0, -0.1, 1e300] {
        let mut bad = good.clone();
        bad.baseline[3] = wrong;
        assert!(!bad.is_sane(), "{wrong}");
        assert!(!KnownKey { alarmed_at: Some(wrong), ..good.clone() }.is_sane(), "{wrong}");
    }
}

#[test]
fn a_signal_keeps_its_name() {
    assert_eq!((signal("cusum"), signal("something newer")), ("cusum", "kept"));
}

#[test]
fn what_is_charged_is_an_address_or_a_64() {
    let of = |text: &str| serde_json::from_str::<KnownCharge>(text).unwrap().source();
    let one = Prefix::whole("2001:db8:1:2::".parse().unwrap());
    // From before there were any.
    assert_eq!(of(r#"{"stray":false,"addr":"2001:db8:1:2::","incident":0}"#), one);
    let subnet = of(r#"{"stray":false,"addr":"2001:db8:1:2::7","subnet":true,"incident":0}"#);
    assert_eq!((subnet.to_string().as_str(), subnet.is_whole()), ("2001:db8:1:2::/64", false));
    assert!(of(r#"{"stray":false,"addr":"192.0.2.1","subnet":true,"incident":0}"#).is_whole());
}

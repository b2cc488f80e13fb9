//! Configuration: values that TOML has no type for: lifetimes, sizes, prefixes.

use std::net::IpAddr;
use std::time::Duration;

/// A lifetime: `63s`, `1m30s`, `500ms`, `1h`, `30d`, in falling units.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let malformed = || format!("'{text}' is not a time; write 63s, 1m30s, 500ms or a number of seconds");
    const UNITS: [(&str, f64); 5] = [("d", 86_400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001)];
    let (mut rest, mut seconds, mut next_unit) = (text.trim(), 0.0, 0);
    if rest.is_empty() {
        return Err(malformed());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| malformed())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        // A bare number is seconds, when it is all there is.
        let unit = if letters == 0 && next_unit == 0 && rest.is_empty() { "s" } else { &rest[..letters] };
        rest = &rest[letters..];
        let found = UNITS.iter().position(|(name, _)| *name == unit).filter(|&at| at >= next_unit);
        let at = found.ok_or_else(malformed)?;
        seconds += number * UNITS[at].1;
        next_unit = at + 1;
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| malformed())
}

/// A size in bytes: `32MiB`, `64 KiB`, `1GiB`, or a bare number.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let malformed = || format!("'{text}' is not a size; write 32MiB, 64KiB or a number of bytes");
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| malformed())?;
    let unit: u64 = match text[digits..].trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(malformed()),
    };
    number.checked_mul(unit).ok_or_else(malformed)
}

/// An address (all its bits) or a prefix whose host bits are zero.
pub(super) fn prefix(text: &str) -> Result<(IpAddr, u8), String> {
    let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(format!(
            "'{text}' is not an address; write 198.51.100.10, 2001:db8::1 or a prefix such as 198.51.100.0/24"
        ));
    };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let Some(length) = length else {
        return Ok((address, bits));
    };
    let length = match length.parse::<u8>() {
        Ok(length) if length <= bits => length,
        _ => {
            return Err(format!(
                "prefix length '{length}' is not 0 to {bits}; write for example {address}/{bits}"
            ));
        }
    };
    let network = network(address, length);
    if network != address {
        return Err(format!(
            "'{text}' has bits set beyond its prefix; write {network}/{length}, or {address} for the one address"
        ));
    }
    Ok((address, length))
}

/// The address with everything beyond `length` cleared.
fn network(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("63s", 63_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1h", 3_600_000),
            ("1d2h", 93_600_000),
            ("1.5s", 1500),
            ("7", 7000),
            ("1m", 60_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "s", "63 s", "-1s", "1s1m", "1s1s", "1x", "1e3s", "1m30", "..s", "99999999999999999999h"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("32MiB"), Ok(32 << 20));
        assert_eq!(size("64 KiB"), Ok(65_536));
        assert_eq!(size("17"), Ok(17));
        for text in ["", "MiB", "1MB", "-1", "1.5GiB", "99999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn prefixes() {
        let v4 = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(prefix("198.51.100.10"), Ok((v4("198.51.100.10"), 32)));
        assert_eq!(prefix("198.51.100.0/24"), Ok((v4("198.51.100.0"), 24)));
        assert_eq!(prefix("0.0.0.0/0"), Ok((v4("0.0.0.0"), 0)));
        assert_eq!(prefix("2001:db8::/32"), Ok((v4("2001:db8::"), 32)));
        assert!(prefix("198.51.100.10/24").unwrap_err().contains("198.51.100.0/24"));
        for text in ["", "1.2.3", "1.2.3.4/33", "::/129", "1.2.3.4/", "1.2.3.4:80", "host"] {
            assert!(prefix(text).is_err(), "{text}");
        }
    }
}

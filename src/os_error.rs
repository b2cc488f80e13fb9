//! What the operating system says of a file, in the project's form of an error: what, why, what mends it. Shared vocabulary, like
//! `time`; opens nothing itself.

use std::io::{Error, ErrorKind};

/// The operating system's words: its first sentence, in lower case, without the number that Rust adds.
pub fn words(error: &Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase().replace(char::is_control, " ")
}

/// The same text as one line that moves no cursor: control characters in it, newlines too, are written as escapes.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Why a file cannot be read, and what mends it.
pub fn unreadable(error: &Error) -> String {
    with_mend(
        error,
        &[
            (ErrorKind::NotFound, "check its name"),
            (ErrorKind::PermissionDenied, "make it readable for this user, or run as one who may read it"),
            (ErrorKind::IsADirectory, "name a file in it"),
            (ErrorKind::NotADirectory, "a part of the path is a file; check the path"),
            (ErrorKind::InvalidData, "save it as UTF-8 text"),
        ],
        "check the path and the disk it is on",
    )
}

/// Why a file cannot be written, and what mends it.
pub fn unwritable(error: &Error) -> String {
    with_mend(
        error,
        &[
            (ErrorKind::NotFound, "its directory must exist"),
            (ErrorKind::PermissionDenied, "choose a place this user may write to"),
            (ErrorKind::IsADirectory, "name a file in it"),
            (ErrorKind::StorageFull, "make room on the disk"),
        ],
        "choose another place",
    )
}

fn with_mend(error: &Error, mends: &[(ErrorKind, &str)], otherwise: &str) -> String {
    let mend = mends.iter().find(|(kind, _)| *kind == error.kind()).map_or(otherwise, |(_, mend)| mend);
    format!("{}; {mend}", words(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_it_is_it_is_one_line() {
        assert_eq!(one_line("a\nb\u{1b}[31m\u{9b}\tä"), "a\\nb\\u{1b}[31m\\u{9b}\\tä");
    }

    #[test]
    fn no_number_and_always_a_mend() {
        // The numbers of errno(3) on Linux: ENOENT, EACCES, EISDIR, ENOSPC, EIO.
        for number in [2, 13, 21, 28, 5] {
            let error = Error::from_raw_os_error(number);
            for text in [unreadable(&error), unwritable(&error)] {
                assert!(!text.contains("os error") && text.contains("; ") && !text.contains('\n'), "{text}");
            }
        }
        let missing = unreadable(&Error::from_raw_os_error(2));
        assert_eq!(missing, "no such file or directory; check its name");
    }
}

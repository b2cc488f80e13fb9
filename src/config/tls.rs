//! Configuration: the words of TLS, as the exporter-toolkit's file has them. No parsing of that file here.

use std::str::FromStr;

/// Whether clients show certificates (`client_auth_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// Whoever shows one must show a good one.
    IfGiven,
    /// Everybody must.
    Required,
}

/// A version of TLS; no older one is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl FromStr for ClientAuth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" | "NoClientCert" => Ok(Self::None),
            "VerifyClientCertIfGiven" => Ok(Self::IfGiven),
            "RequireAndVerifyClientCert" => Ok(Self::Required),
            "RequestClientCert" | "RequireAnyClientCert" => Err(format!(
                "'{text}' takes certificates that anybody can make; use RequireAndVerifyClientCert or VerifyClientCertIfGiven"
            )),
            _ => Err(format!(
                "'{text}' is not one of NoClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert"
            )),
        }
    }
}

impl FromStr for TlsVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "TLS12" => Ok(Self::Tls12),
            "TLS13" => Ok(Self::Tls13),
            "TLS10" | "TLS11" => {
                Err(format!("'{text}' is broken and not spoken (RFC 8996); use TLS12 or TLS13"))
            }
            _ => Err(format!("'{text}' is not a version; use TLS12 or TLS13")),
        }
    }
}

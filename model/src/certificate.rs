//! The faults of a client certificate of ours that explain why a server refuses it, as far as this side can determine them.
//! Pure.
//!
//! A server refuses a client certificate after the TLS handshake has ended for the client (RFC 8446, section 4.4.2): the
//! refusal arrives as an alert instead of the first answer, or not at all, because the server closes the connection at once.
//! The connection then reports only "broken pipe", and the certificate itself is examined.

use std::time::{Duration, SystemTime};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

/// Why no server takes the first certificate of this PEM text at the time `now`, seconds since 1970: it has expired, or is
/// not valid yet. None: its time is no reason.
pub fn out_of_time(pem: &[u8], now: u64) -> Option<String> {
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    let certificate = EndEntityCert::try_from(&certificate).ok()?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
    // The validity period is checked before the issuer.
    let verdict = certificate.verify_for_usage(&[], &[], &[], time, KeyUsage::client_auth(), None, None);
    let date = |time: UnixTime| {
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
        time.map(httpdate::fmt_http_date).unwrap_or_default()
    };
    match verdict.err()? {
        Error::CertExpired { not_after, .. } => Some(format!("it expired on {}", date(not_after))),
        Error::CertNotValidYet { not_before, .. } => {
            Some(format!("it is not valid before {}; is the clock right?", date(not_before)))
        }
        _ => None,
    }
}

/// The TLS alert in the text of an error, if it ends the handshake: it is about our certificate, or about what the two
/// sides cannot agree on. The server has then read no request. Any other alert may arrive after a request was executed.
pub fn refusal(text: &str) -> Option<&str> {
    let (_, alert) = text.split_once("received fatal alert: ")?;
    let about = ["Certificate", "UnknownCA", "AccessDenied", "HandshakeFailure", "ProtocolVersion"];
    about.iter().any(|about| alert.contains(about)).then_some(alert)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `CN=at`, self-signed, valid from 2020-01-01 to 2020-01-02 (`openssl ca -selfsign -startdate … -enddate …`).
    const DAY: &str = "\
        -----BEGIN CERTIFICATE-----\n\
        MIIBNDCB26ADAgECAgEBMAoGCCqGSM49BAMCMA0xCzAJBgNVBAMMAmF0MB4XDTIw\n\
        MDEwMTAwMDAwMFoXDTIwMDEwMjAwMDAwMFowDTELMAkGA1UEAwwCYXQwWTATBgcq\n\
        hkjOPQIBBggqhkjOPQMBBwNCAASb2TaNPClWxUx6jwBfw7vV7+qzRezBvl9Lg88z\n\
        yIvxcW6VyxLKQquFzyT2/2Oqp92kZoOaiRVX9MB42ty9CABZoywwKjAJBgNVHRME\n\
        AjAAMB0GA1UdDgQWBBRqJpRQqHKgU0kiGoJrn3hBkhO9/DAKBggqhkjOPQQDAgNI\n\
        ADBFAiBKmIScFY1SyJbTK07yhtx/6ac9F1PMow0LLrqvVzKnEgIhAJEFSGJcTuv1\n\
        6HctiDiR9l8NlMXO7h2XFDs5J0rFZ/kC\n\
        -----END CERTIFICATE-----\n";

    #[test]
    fn a_certificate_has_its_dates() {
        const FIRST: u64 = 1_577_836_800;
        let fault = |seconds| out_of_time(DAY.as_bytes(), seconds);
        assert_eq!(fault(FIRST + 3600), None);
        assert_eq!(fault(FIRST + 90_000).as_deref(), Some("it expired on Thu, 02 Jan 2020 00:00:00 GMT"));
        let early = "it is not valid before Wed, 01 Jan 2020 00:00:00 GMT; is the clock right?";
        assert_eq!(fault(FIRST - 1).as_deref(), Some(early));
        for not_one in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(out_of_time(not_one.as_bytes(), FIRST), None);
        }
    }

    #[test]
    fn only_an_alert_of_the_handshake_means_that_nothing_was_read() {
        for alert in ["BadCertificate", "CertificateRequired", "CertificateExpired", "UnknownCA", "HandshakeFailure"] {
            assert_eq!(refusal(&format!("x: received fatal alert: {alert}")), Some(alert));
        }
        for later in
            ["received fatal alert: BadRecordMac", "received fatal alert: InternalError", "bad Certificate", ""]
        {
            assert_eq!(refusal(later), None);
        }
    }
}

//! The validity of certificates in PEM files.

use std::path::Path;

use atoll_node::files::{CERTIFICATES, read};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// Begin and end of the validity of the certificate in a file, seconds since 1970. Of several, the one that expires first
/// counts.
pub(crate) fn validity(file: &Path) -> Result<(u64, u64), String> {
    let text = read::given(file, CERTIFICATES).map_err(|error| error.to_string())?;
    let mut all = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        let certificate = Certificate::from_der(&certificate).map_err(|error| error.to_string())?;
        let validity = certificate.tbs_certificate.validity;
        all.push((validity.not_before.to_unix_duration().as_secs(), validity.not_after.to_unix_duration().as_secs()));
    }
    all.into_iter().min_by_key(|(_, end)| *end).ok_or_else(|| "it holds no PEM certificate".to_owned())
}

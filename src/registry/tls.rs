//! TLS: which certificate authorities are trusted.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// A client configuration that trusts the first of these that is there: the
/// bundle in `NIX_SSL_CERT_FILE`, that in `SSL_CERT_FILE`, the system's, and
/// the roots built into this program. The named files are often not there in a
/// build sandbox, though the variables are.
pub(super) fn verifying() -> Result<ClientConfig, rustls::Error> {
    Ok(builder()?.with_root_certificates(roots()).with_no_client_auth())
}

/// A client configuration that trusts nobody, for plain HTTP.
pub(super) fn unused() -> Result<ClientConfig, rustls::Error> {
    Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// A client configuration that trusts everybody, for `--tls-verify=false`.
pub(super) fn insecure() -> Result<ClientConfig, rustls::Error> {
    Ok(builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(no_verifier::NoVerifier::new()))
        .with_no_client_auth())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for variable in ["NIX_SSL_CERT_FILE", "SSL_CERT_FILE"] {
        // A variable that is passed into a sandbox without a value is empty.
        let Some(file) = std::env::var_os(variable).filter(|file| !file.is_empty()) else {
            continue;
        };
        let (added, _) = roots.add_parsable_certificates(certificates(Path::new(&file)));
        if added > 0 {
            return roots;
        }
    }
    let (added, _) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

fn certificates(file: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(file)
        .map(|certificates| certificates.filter_map(Result::ok).collect())
        .unwrap_or_default()
}

mod no_verifier {
    use rustls::DigitallySignedStruct;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::WebPkiSupportedAlgorithms;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    /// Accepts any certificate; signatures are still checked, so that the
    /// server has the key of the certificate that it shows.
    #[derive(Debug)]
    pub(super) struct NoVerifier(WebPkiSupportedAlgorithms);

    impl NoVerifier {
        pub(super) fn new() -> Self {
            Self(rustls::crypto::ring::default_provider().signature_verification_algorithms)
        }
    }

    impl ServerCertVerifier for NoVerifier {
        fn verify_server_cert(
            &self,
            _end_entity: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _server_name: &ServerName<'_>,
            _ocsp_response: &[u8],
            _now: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.0.supported_schemes()
        }
    }
}

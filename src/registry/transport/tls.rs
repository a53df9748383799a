//! TLS: which certificate authorities are trusted, and which client certificate is sent.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::environment::Environment;
use crate::error::{Diagnose, Kind};
use crate::fs;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of certificates contains none, or is malformed.
    #[error("failed to read certificates from `{}`", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// A file of certificates or keys can't be read.
    #[error(transparent)]
    Read(#[from] fs::Error),
    /// A client certificate without its key, or a key without its certificate.
    #[error("`{}` needs `{missing}` in the same directory", path.display())]
    HalfPair {
        /// The file that exists.
        path: PathBuf,
        /// The name of the missing file.
        missing: String,
    },
    /// A directory of certificates can't be listed.
    #[error("failed to list `{}`", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// rustls rejected the configuration.
    #[error("failed to set up TLS")]
    Setup(#[from] rustls::Error),
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        Kind::Other
    }
}

/// The size limit of a file of certificates or keys, in bytes. System bundles have a few
/// hundred kilobytes.
const SIZE_LIMIT: u64 = 8 << 20;

/// Where distributions keep their certificate bundle (Go `crypto/x509/root_linux.go`).
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How servers are verified.
#[derive(Clone, Debug, Default)]
pub(in crate::registry) struct TlsOptions {
    /// Whether to verify nothing in this run.
    pub(in crate::registry) insecure: bool,
    /// A file with additional authorities, which must be usable.
    pub(in crate::registry) authorities: Option<PathBuf>,
    /// The directory with the certificates for one host.
    pub(in crate::registry) own: Option<(String, PathBuf)>,
    /// Where certificates are, in variables.
    pub(in crate::registry) environment: Environment,
}

impl TlsOptions {
    /// Returns the certificate directory for `host`, if there is one (containers-certs.d(5)).
    pub(in crate::registry) fn own_certificates(&self, host: &str) -> Option<PathBuf> {
        if let Some((given, directory)) = &self.own
            && super::origin::dial_host(given) == host
        {
            return Some(directory.clone());
        }
        // The host may come from a server's redirect: it must not lead out of these directories.
        if host.is_empty() || host.starts_with('.') {
            return None;
        }
        // Docker Hub's directory is named after the registry, not after the host that is
        // contacted. A directory's name may include the default port.
        let host = if host == "registry-1.docker.io" { "docker.io" } else { host };
        let names = [host.to_owned(), format!("{host}:443")];
        let home = self.environment.path("HOME");
        let home = home.map(|home| home.join(".config/containers/certs.d"));
        home.into_iter()
            .chain(["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from))
            .flat_map(|directory| names.clone().map(|name| directory.join(name)))
            .find(|directory| directory.is_dir())
    }

    /// Returns the configuration for a server, including the certificates in its own directory.
    pub(in crate::registry) fn config(
        &self,
        verified: bool,
        own: Option<&Path>,
    ) -> Result<ClientConfig, Error> {
        let own = own.map(OwnCertificates::read).transpose()?.unwrap_or_default();
        let builder = if verified {
            let mut roots = roots(&self.environment);
            if let Some(path) = &self.authorities {
                roots.add_parsable_certificates(certificates(path)?);
            }
            roots.add_parsable_certificates(own.authorities);
            builder()?.with_root_certificates(roots)
        } else {
            let anybody = Arc::new(no_verifier::NoVerifier::new());
            builder()?.dangerous().with_custom_certificate_verifier(anybody)
        };
        Ok(match own.client {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        })
    }
}

/// Returns the configuration for docker's API, whose directory of certificates holds `ca.pem`,
/// `cert.pem` and `key.pem`. Without one, nothing is encrypted.
pub(crate) fn docker_tls(directory: Option<&Path>) -> Result<ClientConfig, Error> {
    let Some(directory) = directory else { return unused() };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&directory.join("ca.pem"))?);
    let builder = builder()?.with_root_certificates(roots);
    let (path, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    if !path.exists() {
        return Ok(builder.with_no_client_auth());
    }
    Ok(builder.with_client_auth_cert(certificates(&path)?, private_key(&key)?)?)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let text = fs::read(path, SIZE_LIMIT)?;
    let error = |source| Error::Certificates { path: path.to_owned(), source };
    PrivateKeyDer::from_pem_slice(&text).map_err(error)
}

/// Returns a configuration that trusts no server, for plain HTTP.
pub(in crate::registry) fn unused() -> Result<ClientConfig, Error> {
    Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

/// Returns the trusted roots from the first usable source: the bundle in
/// `NIX_SSL_CERT_FILE`, the one in `SSL_CERT_FILE`, the system's, or the roots built into
/// this program. In a build sandbox, the variables are often set although their files
/// don't exist.
fn roots(environment: &Environment) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for variable in ["NIX_SSL_CERT_FILE", "SSL_CERT_FILE"] {
        let Some(file) = environment.path(variable) else { continue };
        let certificates = certificates(&file).unwrap_or_default();
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added > 0 {
            return roots;
        }
    }
    let (added, _) = roots.add_parsable_certificates(system_certificates(environment));
    if added == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// Returns the system's certificates. `load_native_certs` also reads `SSL_CERT_FILE` and
/// `SSL_CERT_DIR`, and finds nothing if `SSL_CERT_FILE` is empty or its file is missing,
/// so it is used only if neither variable is set.
fn system_certificates(environment: &Environment) -> Vec<CertificateDer<'static>> {
    if ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().all(|name| !environment.has(name)) {
        return rustls_native_certs::load_native_certs().certs;
    }
    if let Some(directory) = environment.path("SSL_CERT_DIR") {
        return rustls_native_certs::load_certs_from_paths(None, Some(&directory)).certs;
    }
    let bundle = SYSTEM_BUNDLES.iter().find_map(|path| certificates(Path::new(path)).ok());
    bundle.unwrap_or_default()
}

/// Reads all certificates in a file, which must contain at least one.
pub(in crate::registry) fn certificates(
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let error = |source| Error::Certificates { path: path.to_owned(), source };
    let text = fs::read(path, SIZE_LIMIT)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(error)?;
    if certificates.is_empty() { Err(error(pem::Error::NoItemsFound)) } else { Ok(certificates) }
}

/// The content of a directory in `certs.d`: `*.crt` are authorities, `NAME.cert` and
/// `NAME.key` are a client certificate and its key.
#[derive(Default)]
struct OwnCertificates {
    authorities: Vec<CertificateDer<'static>>,
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl OwnCertificates {
    fn read(directory: &Path) -> Result<Self, Error> {
        let list_error = |source| Error::Directory { path: directory.to_owned(), source };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(list_error)? {
            paths.push(entry.map_err(list_error)?.path());
        }
        paths.sort();
        let mut own = Self::default();
        for path in &paths {
            let beside = |extension: &str| {
                let other = path.with_extension(extension);
                let missing = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if other.exists() {
                    Ok(other)
                } else {
                    Err(Error::HalfPair { path: path.clone(), missing })
                }
            };
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => own.authorities.extend(certificates(path)?),
                Some("cert") => {
                    let key = beside("key")?;
                    own.client = Some((certificates(path)?, private_key(&key)?));
                }
                Some("key") => {
                    beside("cert")?;
                }
                _ => {}
            }
        }
        Ok(own)
    }
}
mod no_verifier {
    use rustls::DigitallySignedStruct;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::WebPkiSupportedAlgorithms;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    /// Accepts any certificate. Signatures are still checked, so the server must have the
    /// key of the certificate that it presents.
    #[derive(Debug)]
    pub(in crate::registry) struct NoVerifier(WebPkiSupportedAlgorithms);

    impl NoVerifier {
        pub(in crate::registry) fn new() -> Self {
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

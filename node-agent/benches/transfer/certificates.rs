//! An authority and three certificates, as files: `ca.pem`, and NAME.pem with NAME.key.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use proto::identity::Identity;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

/// Cluster of all certificates.
pub(crate) const CLUSTER: &str = "bench";
/// Names of the certificates, with their roles.
const NAMES: [(&str, &str); 3] = [("db1", "agent"), ("db2", "agent"), ("m1", "manager")];

/// Writes them to `folder`, readable by their owner only.
pub(crate) fn write(folder: &Path) {
    let key = KeyPair::generate().expect("ring makes keys");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("the authority is valid");
    write_private(&folder.join("ca.pem"), &authority.pem());
    let issuer = Issuer::from_ca_cert_pem(&authority.pem(), key).expect("it was just made");
    for (name, role) in NAMES {
        let key = KeyPair::generate().expect("ring makes keys");
        let uri = format!("mha://{CLUSTER}/{role}/{name}");
        let identity: Identity = uri.parse().expect("one of our roles");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::URI(uri.as_str().try_into().expect("ASCII")),
            SanType::DnsName(identity.dns_name().as_str().try_into().expect("ASCII")),
        ];
        let certificate = params
            .signed_by(&key, &issuer)
            .expect("the names are valid");
        write_private(&folder.join(format!("{name}.pem")), &certificate.pem());
        write_private(&folder.join(format!("{name}.key")), &key.serialize_pem());
    }
}

fn write_private(path: &Path, text: &str) {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .expect("the folder is private and writable");
}

//! The forms in which the results are asked for: upstream's inspection XML and VM manifest.

use std::fmt::Write;

use super::domain::escape;
use super::output::Inspection;

/// The inspection in virt-v2v-inspector's form.
pub fn inspection_xml(i: &Inspection) -> String {
    let mut xml = String::from(
        "<?xml version='1.0' encoding='utf-8'?>\n<v2v-inspection>\n  <program>forklift</program>\n  <operatingsystem>\n",
    );
    for (tag, value) in [
        ("name", &i.name),
        ("distro", &i.distro),
        ("osinfo", &i.osinfo),
        ("arch", &i.arch),
        ("major_version", &i.major_version),
        ("minor_version", &i.minor_version),
        ("package_format", &i.package_format),
        ("package_management", &i.package_management),
        ("product_name", &i.product_name),
    ] {
        let _ = writeln!(xml, "    <{tag}>{}</{tag}>", escape(value));
    }
    let _ = writeln!(xml, "  </operatingsystem>\n  <firmware type='{}'/>\n</v2v-inspection>", escape(&i.firmware));
    xml
}

/// What upstream's controller reads of the manifest that virt-v2v's KubeVirt output writes: the firmware.
pub fn vm_yaml(name: &str, firmware: &str) -> String {
    let bootloader = if firmware == "uefi" { "efi:\n              secureBoot: false" } else { "bios: {}" };
    format!(
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata:\n  name: {}\nspec:\n  template:\n    spec:\n      \
         domain:\n        firmware:\n          bootloader:\n            {bootloader}\n",
        serde_json::Value::from(name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn inspection_has_what_upstream_reads() {
        let i = Inspection {
            name: "linux".into(),
            distro: "debian".into(),
            osinfo: "debian12".into(),
            arch: "x86_64".into(),
            product_name: "Debian <12>".into(),
            firmware: "bios".into(),
            ..Inspection::default()
        };
        expect![[r"
            <?xml version='1.0' encoding='utf-8'?>
            <v2v-inspection>
              <program>forklift</program>
              <operatingsystem>
                <name>linux</name>
                <distro>debian</distro>
                <osinfo>debian12</osinfo>
                <arch>x86_64</arch>
                <major_version></major_version>
                <minor_version></minor_version>
                <package_format></package_format>
                <package_management></package_management>
                <product_name>Debian &lt;12&gt;</product_name>
              </operatingsystem>
              <firmware type='bios'/>
            </v2v-inspection>
        "]]
        .assert_eq(&inspection_xml(&i));
    }

    #[test]
    fn manifest_tells_the_firmware() {
        expect![[r#"
            apiVersion: kubevirt.io/v1
            kind: VirtualMachine
            metadata:
              name: "web: 1"
            spec:
              template:
                spec:
                  domain:
                    firmware:
                      bootloader:
                        efi:
                          secureBoot: false
        "#]]
        .assert_eq(&vm_yaml("web: 1", "uefi"));
        assert!(vm_yaml("a", "bios").ends_with("bootloader:\n            bios: {}\n"));
    }
}

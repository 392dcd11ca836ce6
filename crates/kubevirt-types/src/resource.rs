//! What makes a struct a Kubernetes kind.

/// Declares a kind with `metadata`, `spec`, `status` and unknown fields, and its place in the API.
macro_rules! resource {
    (
        $(#[$meta:meta])*
        $name:ident { spec: $spec:ty, status: $status:ty }
        $scope:ident $group:literal $version:literal $plural:literal
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name {
            /// Name, namespace, labels and the like.
            pub metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            /// What is wanted.
            pub spec: $spec,
            /// What is.
            pub status: Option<$status>,
            /// Fields that we do not know.
            pub other: $crate::Other,
        }

        impl $name {
            /// Returns an object of that name with that spec.
            pub fn new(namespace: Option<&str>, name: &str, spec: $spec) -> Self {
                let metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                    name: Some(name.to_owned()),
                    namespace: namespace.map(str::to_owned),
                    ..Default::default()
                };
                Self { metadata, spec, status: None, other: Default::default() }
            }
        }

        impl k8s_openapi::Resource for $name {
            const API_VERSION: &'static str = concat!($group, "/", $version);
            const GROUP: &'static str = $group;
            const KIND: &'static str = stringify!($name);
            const VERSION: &'static str = $version;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = k8s_openapi::$scope;
        }

        impl k8s_openapi::Metadata for $name {
            type Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
            fn metadata(&self) -> &Self::Ty { &self.metadata }
            fn metadata_mut(&mut self) -> &mut Self::Ty { &mut self.metadata }
        }

        const _: () = {
            use k8s_openapi::Resource;
            use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

            #[derive(serde::Serialize)]
            #[serde(rename_all = "camelCase")]
            struct Written<'a> {
                api_version: &'static str,
                kind: &'static str,
                metadata: &'a ObjectMeta,
                #[serde(skip_serializing_if = "is_unset")]
                spec: &'a $spec,
                #[serde(skip_serializing_if = "Option::is_none")]
                status: &'a Option<$status>,
                #[serde(flatten)]
                other: &'a $crate::Other,
            }

            fn is_unset(spec: &&$spec) -> bool { $crate::unset(*spec) }

            #[derive(serde::Deserialize)]
            #[serde(rename_all = "camelCase")]
            struct Read {
                #[serde(default, rename = "apiVersion")]
                _api_version: serde::de::IgnoredAny,
                #[serde(default, rename = "kind")]
                _kind: serde::de::IgnoredAny,
                #[serde(default)]
                metadata: ObjectMeta,
                #[serde(default)]
                spec: $spec,
                #[serde(default)]
                status: Option<$status>,
                #[serde(flatten)]
                other: $crate::Other,
            }

            impl serde::Serialize for $name {
                fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    Written {
                        api_version: Self::API_VERSION,
                        kind: Self::KIND,
                        metadata: &self.metadata,
                        spec: &self.spec,
                        status: &self.status,
                        other: &self.other,
                    }
                    .serialize(serializer)
                }
            }

            impl<'de> serde::Deserialize<'de> for $name {
                fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let Read { metadata, spec, status, other, .. } = Read::deserialize(deserializer)?;
                    Ok(Self { metadata, spec, status, other })
                }
            }
        };
    };
}

/// Declares a part of an object: optional fields under their JSON names, and unknown fields.
macro_rules! part {
    (
        $(#[$meta:meta])*
        $name:ident { $($(#[$fmeta:meta])* $field:ident $(as $json:literal)?: $type:ty),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            $(
                $(#[$fmeta])*
                #[serde(default, skip_serializing_if = "crate::unset" $(, rename = $json)?)]
                pub $field: $type,
            )*
            /// Fields that we do not know.
            #[serde(flatten)]
            pub other: $crate::Other,
        }
    };
}

pub(crate) use {part, resource};

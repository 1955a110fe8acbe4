//! The forms in which every row of the table of cases is run: two kinds of server, three and four of them.

use std::fmt;

use crate::sandbox::{ClusterSpec, ServerKind};

/// One form of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// The line of its servers.
    pub kind: ServerKind,
    /// Replicas: two, or three.
    pub replicas: u8,
}

impl Form {
    /// A primary and `replicas` replicas of this kind.
    pub fn new(kind: ServerKind, replicas: u8) -> Self {
        Self { kind, replicas }
    }

    /// The numbers of its replicas.
    pub fn replica_numbers(self) -> std::ops::RangeInclusive<usize> {
        1..=usize::from(self.replicas)
    }

    /// The plain cluster of this form.
    pub fn cluster(self) -> ClusterSpec {
        ClusterSpec::new(self.kind).replicas(self.replicas)
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} servers", self.kind, self.replicas + 1)
    }
}

/// Makes four tests of one story, `async fn(Form) -> Result<(), Failure>`: in a module of the story's name, one for each
/// form.
#[macro_export]
macro_rules! on_every_form {
    ($($story:ident)+) => {
        $(
            mod $story {
                use $crate::sandbox::ServerKind::{MariaDb1011, MySql56};
                use $crate::scenario::{Failure, Form};

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn mysql_5_6_three_servers() -> Result<(), Failure> {
                    super::$story(Form::new(MySql56, 2)).await
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn mysql_5_6_four_servers() -> Result<(), Failure> {
                    super::$story(Form::new(MySql56, 3)).await
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn mariadb_10_11_three_servers() -> Result<(), Failure> {
                    super::$story(Form::new(MariaDb1011, 2)).await
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn mariadb_10_11_four_servers() -> Result<(), Failure> {
                    super::$story(Form::new(MariaDb1011, 3)).await
                }
            }
        )+
    };
}

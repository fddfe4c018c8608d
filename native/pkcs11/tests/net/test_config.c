/* test_config.c - Chrystoki.conf as people and other programs write it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "config.h"
#include "trace.h"

static struct cv_config config;

static void parse(const char *text)
{
    cv_config_parse(text, strlen(text), &config);
}

/* The shape of the file in chapter 4 of the guide: two clusters beside a classic client. */
static void the_guides_sample_parses(void)
{
    parse("Chrystoki2 = {\n"
          "    LibUNIX64 = /usr/safenet/lunaclient/lib/libCryptoki2_64.so;\n"
          "}\n"
          "LunaSA Client = {\n"
          "    ReceiveTimeout = 20000;\n"
          "    SSLConfigFile = /usr/safenet/lunaclient/bin/openssl.cnf;\n"
          "    ClientPrivKeyFile = /usr/safenet/lunaclient/cert/client/ClientNameKey.pem;\n"
          "    ServerCAFile = /usr/safenet/lunaclient/cert/server/CAFile.pem;\n"
          "    NetClient = 1;\n"
          "    TCPKeepAlive = 1;\n"
          "\n"
          "    LNHServer00 = 1.2.3.4:50052;\n"
          "    LNHServerClientCert00 = /c/c2c94c40/2.3.4.5.pem;\n"
          "    LNHServerClientKey00 = /c/c2c94c40/2.3.4.5Key.pem;\n"
          "    LNHServerCAFile00 = /s/c2c94c40/lnh_ca.pem;\n"
          "    LNHServerCN00 = lnh.thalesgroup.com;\n"
          "    LNHServer01 = 5.6.7.8:50055;\n"
          "    LNHServerClientCert01 = /c/3fed78e8/2.3.4.5.pem;\n"
          "    LNHServerClientKey01 = /c/3fed78e8/2.3.4.5Key.pem;\n"
          "    LNHServerCAFile01 = /s/3fed78e8/lnh_ca.pem;\n"
          "    LNHServerCN01 = lnh.thalesgroup.com;\n"
          "}\n");
    CHECK(config.receive_timeout_ms == 20000 && config.keep_alive && config.cluster_count == 2);
    const struct cv_cluster_config *second = &config.clusters[1];
    CHECK(second->fault == NULL && second->index == 1);
    CHECK(strcmp(second->host, "5.6.7.8") == 0 && strcmp(second->port, "50055") == 0);
    CHECK(strcmp(second->certificate, "/c/3fed78e8/2.3.4.5.pem") == 0);
    CHECK(strcmp(second->key, "/c/3fed78e8/2.3.4.5Key.pem") == 0);
    CHECK(strcmp(second->authority, "/s/3fed78e8/lnh_ca.pem") == 0);
    CHECK(strcmp(second->name, "lnh.thalesgroup.com") == 0);
}

#define ENTRIES(index)                      \
    "LNHServerClientCert" index " = /cert;" \
    "\nLNHServerClientKey" index " = /key;" \
    "\nLNHServerCAFile" index " = /ca;\n"

static void gaps_between_clusters_are_closed(void)
{
    parse("LunaSA Client = {\n" ENTRIES("09") "LNHServer09 = h:1;\n" ENTRIES("03") "LNHServer03 = g:2;\n}");
    CHECK(config.cluster_count == 2 && config.clusters[0].index == 3 && config.clusters[1].index == 9);
    CHECK(strcmp(config.clusters[0].host, "g") == 0 && strcmp(config.clusters[1].host, "h") == 0);
    CHECK(config.clusters[0].fault == NULL && config.clusters[1].fault == NULL);
}

static void a_socket_is_a_path_that_fits(void)
{
    char text[512], path[CV_CONFIG_MAX_SOCKET + 1];
    memset(path, 'a', sizeof path);
    path[0] = '/';
    for (size_t length = CV_CONFIG_MAX_SOCKET - 1; length <= CV_CONFIG_MAX_SOCKET; length++) {
        path[length] = '\0';
        snprintf(text, sizeof text,
                 "LunaSA Client = {\nLNHServer00 = a:1;\n" ENTRIES("00")
                 "LNHServerSocket00 = %s;\n}\n", path);
        parse(text);
        bool fits = length < CV_CONFIG_MAX_SOCKET;
        CHECK((config.clusters[0].fault == NULL) == fits);
        CHECK(strcmp(config.clusters[0].socket, fits ? path : "") == 0);
        path[length] = 'a';
    }
}

static void a_cluster_without_a_name_has_the_fixed_one(void)
{
    parse("LunaSA Client = {\n" ENTRIES("00") "LNHServer00 = 1.2.3.4:50052;\n}");
    CHECK(strcmp(config.clusters[0].name, CV_CONFIG_DEFAULT_NAME) == 0);
}

static void a_bad_entry_spoils_its_own_cluster_only(void)
{
    static const char *const bad[] = { "1.2.3.4",       "1.2.3.4:0",     "1.2.3.4:65536",
                                       "1.2.3.4:50o52", ":50052",        "1.2.3.4:",
                                       "",              "1.2.3.4:-1",    "1.2.3.4:9999999999" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "LunaSA Client = {\nLNHServer00 = %s;\n" ENTRIES("00") "LNHServer01 = h:1;\n"
                 ENTRIES("01") "}\n", bad[i]);
        parse(text);
        CHECK(config.cluster_count == 2);
        CHECK(config.clusters[0].fault != NULL && config.clusters[1].fault == NULL);
    }
}

static void an_incomplete_cluster_says_so(void)
{
    parse("LunaSA Client = {\nLNHServer00 = 1.2.3.4:50052;\nLNHServerClientCert00 = /cert;\n}");
    CHECK(config.cluster_count == 1 && config.clusters[0].fault != NULL);
}

static void entries_without_an_address_are_no_cluster(void)
{
    parse("LunaSA Client = {\n" ENTRIES("00") "}");
    CHECK(config.cluster_count == 0);
}

static void other_sections_and_indexes_are_not_ours(void)
{
    parse("Misc = {\nLNHServer00 = 1.2.3.4:50052;\n}\n"
          "LNHServer01 = 1.2.3.4:50052;\n"
          "LunaSA Client = {\nLNHServer10 = h:1;\nLNHServer0x = h:1;\nLNHServer = h:1;\n"
          "LNHServerX = h:1;\nLNHServer000 = h:1;\n}\n"
          "LNHServer02 = 1.2.3.4:50052;\n");
    CHECK(config.cluster_count == 0);
}

static void blanks_tabs_and_carriage_returns_do_not_matter(void)
{
    parse("  LunaSA Client={\r\n\tReceiveTimeout=5\r\n TCPKeepAlive = 0 ; \r\n"
          "LNHServer00=[fe80::1]:50052;\r\n" ENTRIES("00") " } \r\n");
    CHECK(config.receive_timeout_ms == 5 && !config.keep_alive && config.cluster_count == 1);
    CHECK(strcmp(config.clusters[0].host, "fe80::1") == 0 && config.clusters[0].fault == NULL);
}

static void direct_connections_are_on_unless_switched_off(void)
{
    parse("LunaSA Client = {\n}\n");
    CHECK(config.direct);
    parse("LunaSA Client = {\n LNHDirect = 0;\n}\n");
    CHECK(!config.direct);
    parse("LunaSA Client = {\n LNHDirect = 1;\n}\n");
    CHECK(config.direct);
}

static void a_comment_may_follow_the_semicolon(void)
{
    parse("LunaSA Client = {\n LNHServer00 = h:1 ; # mine; really\n LNHServerClientCert00 = c;\n"
          " LNHServerClientKey00 = k;#\n LNHServerCAFile00 = a;\n}\n");
    CHECK(config.cluster_count == 1 && config.clusters[0].fault == NULL);
    CHECK(strcmp(config.clusters[0].port, "1") == 0 && strcmp(config.clusters[0].key, "k") == 0);
}

static void numbers_that_are_none_leave_the_default(void)
{
    parse("LunaSA Client = {\nReceiveTimeout = soon;\n}");
    CHECK(config.receive_timeout_ms == CV_CONFIG_DEFAULT_RECEIVE_TIMEOUT_MS);
    parse("LunaSA Client = {\nReceiveTimeout = 0;\n}");
    CHECK(config.receive_timeout_ms == CV_CONFIG_DEFAULT_RECEIVE_TIMEOUT_MS);
}

static void a_value_too_long_spoils_its_cluster(void)
{
    static char text[4096];
    strcpy(text, "LunaSA Client = {\nLNHServer00 = h:1;\n" ENTRIES("00") "LNHServerCAFile00 = /");
    memset(text + strlen(text), 'x', CV_CONFIG_MAX_VALUE);
    strcat(text, ";\n}");
    parse(text);
    CHECK(config.cluster_count == 1 && config.clusters[0].fault != NULL);
}

static void nul_bytes_do_not_shorten_a_path(void)
{
    static const char text[] = "LunaSA Client = {\nLNHServer00 = h:1;\n" ENTRIES("00")
                               "LNHServerCAFile00 = /ca\0/evil;\n}";
    cv_config_parse(text, sizeof text - 1, &config);
    CHECK(config.clusters[0].fault != NULL);
}

static void rubbish_is_passed_over(void)
{
    parse("}}}\n= {\n===\n;\n# a comment { = ;\nLunaSA Client\n{\nLunaSA Client = \n");
    CHECK(config.cluster_count == 0);
    parse("LunaSA Client = {\n= value;\nkey\nkey =;\n= ;\n");
    CHECK(config.cluster_count == 0);
}

/* --- files ----------------------------------------------------------------------------------- */

static char directory[] = "/tmp/conclave-config-XXXXXX";

static void put_file(const char *text, mode_t mode)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/Chrystoki.conf", directory);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static void the_directory_comes_from_the_environment(void)
{
    setenv("ChrystokiConfigurationPath", directory, 1);
    CHECK(cv_config_read(&config) == CV_CONFIG_ABSENT && config.cluster_count == 0);
    put_file("LunaSA Client = {\nLNHServer00 = h:1;\n" ENTRIES("00") "}", 0600);
    CHECK(cv_config_read(&config) == CV_CONFIG_READ && config.cluster_count == 1);
    setenv("ChrystokiConfigurationPath", "/nowhere/at/all", 1);
    CHECK(cv_config_read(&config) == CV_CONFIG_ABSENT && config.cluster_count == 0);
}

static void the_environment_stands_for_a_file(void)
{
    setenv("ChrystokiConfigurationPath", directory, 1);
    put_file("LunaSA Client = {\nLNHServer03 = h:1;\n" ENTRIES("03") "}", 0600);
    setenv("CONCLAVE_SERVER", " [2001:db8::1]:50055 ", 1);
    CHECK(cv_config_read(&config) == CV_CONFIG_READ && config.cluster_count == 1);
    CHECK(config.clusters[0].index == 0 && config.clusters[0].fault != NULL);
    setenv("CONCLAVE_CLIENT_CERT_FILE", "/run/cert.pem", 1);
    setenv("CONCLAVE_CLIENT_KEY_FILE", "/run/key.pem", 1);
    setenv("CONCLAVE_CA_FILE", "/run/ca.pem", 1);
    setenv("CONCLAVE_RECEIVE_TIMEOUT", "1500", 1);
    setenv("CONCLAVE_LNH_DIRECT", "0", 1);
    setenv("CONCLAVE_TCP_KEEPALIVE", "0", 1);
    CHECK(cv_config_read(&config) == CV_CONFIG_READ && config.clusters[0].fault == NULL);
    CHECK(strcmp(config.clusters[0].host, "2001:db8::1") == 0);
    CHECK(strcmp(config.clusters[0].port, "50055") == 0);
    CHECK(strcmp(config.clusters[0].certificate, "/run/cert.pem") == 0);
    CHECK(strcmp(config.clusters[0].key, "/run/key.pem") == 0);
    CHECK(strcmp(config.clusters[0].authority, "/run/ca.pem") == 0);
    CHECK(strcmp(config.clusters[0].name, CV_CONFIG_DEFAULT_NAME) == 0);
    CHECK(config.receive_timeout_ms == 1500 && !config.direct && !config.keep_alive);
    setenv("CONCLAVE_SERVER_CN", "lnh.test", 1);
    setenv("CONCLAVE_SERVER", "h:0", 1);
    CHECK(cv_config_read(&config) == CV_CONFIG_READ && config.clusters[0].fault != NULL);
    CHECK(strcmp(config.clusters[0].name, "lnh.test") == 0);
    setenv("CONCLAVE_SERVER", "", 1);
    CHECK(cv_config_read(&config) == CV_CONFIG_READ && config.clusters[0].index == 3);
}

/* Reads the configuration, and returns what the trace says of it. */
static const char *read_traced(char text[1024])
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/trace", directory);
    setenv("CONCLAVE_PKCS11_TRACE", path, 1);
    cv_trace_start();
    CHECK(cv_config_read(&config) == CV_CONFIG_READ);
    cv_trace_stop();
    int fd = open(path, O_RDONLY);
    ssize_t length = read(fd, text, 1023);
    close(fd);
    unlink(path);
    text[length < 0 ? 0 : length] = '\0';
    return text;
}

static void a_fault_names_what_it_was_read_from(void)
{
    char text[1024];
    setenv("ChrystokiConfigurationPath", directory, 1);
    put_file("LunaSA Client = {\nLNHServer03 = h:0;\nReceiveTimeout = x;\n" ENTRIES("03") "}", 0600);
    setenv("CONCLAVE_SERVER", "h:0", 1);
    setenv("CONCLAVE_RECEIVE_TIMEOUT", "x", 1);
    CHECK(strstr(read_traced(text), "Chrystoki.conf") == NULL);
    CHECK(strstr(text, "CONCLAVE_SERVER and its like: cluster 00 cannot be used: the port") != NULL);
    CHECK(strstr(text, "CONCLAVE_SERVER and its like: ReceiveTimeout must be") != NULL);
    setenv("CONCLAVE_SERVER", "", 1);
    CHECK(strstr(read_traced(text), "CONCLAVE_SERVER") == NULL);
    CHECK(strstr(text, "Chrystoki.conf: cluster 03 cannot be used: the port") != NULL);
    CHECK(strstr(text, "Chrystoki.conf: ReceiveTimeout must be") != NULL);
}

static void what_is_no_regular_file_is_unreadable(void)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/Chrystoki.conf", directory);
    setenv("ChrystokiConfigurationPath", directory, 1);
    CHECK(unlink(path) == 0 && mkdir(path, 0700) == 0);
    CHECK(cv_config_read(&config) == CV_CONFIG_UNREADABLE);
    CHECK(rmdir(path) == 0 && mkfifo(path, 0600) == 0);
    CHECK(cv_config_read(&config) == CV_CONFIG_UNREADABLE);
    CHECK(unlink(path) == 0);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    CHECK(fd >= 0 && ftruncate(fd, CV_CONFIG_MAX_BYTES + 1) == 0);
    close(fd);
    CHECK(cv_config_read(&config) == CV_CONFIG_UNREADABLE);
    unlink(path);
}

int main(void)
{
    if (mkdtemp(directory) == NULL)
        return 1;
    RUN(the_guides_sample_parses);
    RUN(gaps_between_clusters_are_closed);
    RUN(a_socket_is_a_path_that_fits);
    RUN(a_cluster_without_a_name_has_the_fixed_one);
    RUN(a_bad_entry_spoils_its_own_cluster_only);
    RUN(an_incomplete_cluster_says_so);
    RUN(entries_without_an_address_are_no_cluster);
    RUN(other_sections_and_indexes_are_not_ours);
    RUN(blanks_tabs_and_carriage_returns_do_not_matter);
    RUN(direct_connections_are_on_unless_switched_off);
    RUN(a_comment_may_follow_the_semicolon);
    RUN(numbers_that_are_none_leave_the_default);
    RUN(a_value_too_long_spoils_its_cluster);
    RUN(nul_bytes_do_not_shorten_a_path);
    RUN(rubbish_is_passed_over);
    RUN(the_directory_comes_from_the_environment);
    RUN(the_environment_stands_for_a_file);
    RUN(a_fault_names_what_it_was_read_from);
    RUN(what_is_no_regular_file_is_unreadable);
    rmdir(directory);
    return check_report("test_config");
}

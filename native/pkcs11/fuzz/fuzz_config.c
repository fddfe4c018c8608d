/* fuzz_config.c - any bytes as Chrystoki.conf. */
#include <stdlib.h>
#include <string.h>

#include "config.h"

#define HOLDS(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void judge(const struct cv_cluster_config *cluster)
{
    HOLDS(cluster->index < CV_CONFIG_MAX_CLUSTERS && cluster->name[0] != '\0');
    HOLDS(memchr(cluster->host, 0, sizeof cluster->host) != NULL);
    HOLDS(memchr(cluster->certificate, 0, sizeof cluster->certificate) != NULL);
    HOLDS(memchr(cluster->key, 0, sizeof cluster->key) != NULL);
    HOLDS(memchr(cluster->authority, 0, sizeof cluster->authority) != NULL);
    HOLDS(memchr(cluster->name, 0, sizeof cluster->name) != NULL);
    if (cluster->fault != NULL)
        return;
    int port = atoi(cluster->port);
    HOLDS(port >= 1 && port <= 65535 && cluster->host[0] != '\0');
    HOLDS(cluster->certificate[0] != '\0' && cluster->key[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cv_config config;
    char *text = malloc(size); /* exactly as long, so that ASan sees a byte beyond */
    if (size != 0 && text == NULL)
        return 0;
    if (size != 0)
        memcpy(text, data, size);
    cv_config_parse(text, size, &config);
    HOLDS(config.receive_timeout_ms != 0 && config.cluster_count <= CV_CONFIG_MAX_CLUSTERS);
    for (size_t i = 0; i < config.cluster_count; i++) {
        judge(&config.clusters[i]);
        HOLDS(i == 0 || config.clusters[i].index > config.clusters[i - 1].index);
    }
    free(text);
    return 0;
}
